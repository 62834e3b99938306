%% What stands in ops/ asks for what is exported: by its names, and by a Prometheus that scrapes a node, its client and `erlmcp-shm serve'.
-module(erlmcp_shm_ops_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(PREFIX, <<"erlmcp_claude_flow_">>).
-define(URI, <<"file:///motd">>).

all() ->
    [one_list, names, rules, scraped, agreed, units, defaults].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop(erlmcp_claude_flow),
    erlmcp_shm_test:stop().

%%% By their names

%% Whoever exports, exports the same: names, types and what is said of them. Who has only the file to tell of leaves
%% out the rest.
one_list(Config) ->
    Exporters = exporters(Config),
    Node = told(Exporters, <<"erlmcp-node">>),
    ?assertEqual([<<Name/binary, $\s, (atom_to_binary(Type))/binary>> || {Name, Type} <- families()], types(Node)),
    ?assertEqual(headings(Node), headings(told(Exporters, <<"erlmcp-client">>))),
    ?assertEqual(
        [Line || Line <- headings(Node), string:find(Line, " erlmcp_claude_flow_shm_") =/= nomatch],
        headings(told(Exporters, <<"erlmcp-shm-serve">>))
    ).

told(Exporters, Job) ->
    {Job, Port, _} = lists:keyfind(Job, 1, Exporters),
    {200, _, Text} = erlmcp_shm_wire:request(Port, "GET", "/metrics", []),
    binary:split(Text, <<"\n">>, [global]).

types(Lines) ->
    [Line || <<"# TYPE ", Line/binary>> <- Lines].

headings(Lines) ->
    [Line || <<"# ", Line/binary>> <- Lines].

%% The dashboard and the rules ask for nothing else, by no label that is not there, and the dashboard for all of it.
names(Config) ->
    Known = labels_by_name(told(exporters(Config), <<"erlmcp-node">>)),
    [
        begin
            [?assert(is_map_key(Name, Known), {Name, Expr}) || Name <- names_in(Expr)],
            Labels = lists:append([maps:get(Name, Known) || Name <- names_in(Expr)]),
            [?assert(lists:member(Label, Labels), {Label, Expr}) || Label <- Asked ++ labels_in(Expr)]
        end
     || {Expr, Asked} <- panels() ++ alerts()
    ],
    Shown = lists:usort(lists:append([names_in(Expr) || {Expr, _} <- panels()])),
    ?assertEqual([], lists:usort(maps:keys(Known)) -- Shown),
    ?assertEqual(5, length(alerts())).

labels_by_name(Lines) ->
    lists:foldl(
        fun(Line, Known) ->
            [Name | _] = re:split(Line, "[ {]"),
            Known#{Name => [<<"job">>, <<"instance">> | labels_in(Line)]}
        end,
        #{},
        [Line || <<"erlmcp_", _/binary>> = Line <- Lines]
    ).

names_in(Expr) ->
    lists:usort(found(Expr, <<(?PREFIX)/binary, "\\w+">>)).

labels_in(Expr) ->
    found(Expr, "(?<=[{,\\s])\\w+(?==~?\")").

found(Text, Pattern) ->
    case re:run(Text, Pattern, [global, {capture, first, binary}]) of
        {match, All} -> lists:append(All);
        nomatch -> []
    end.

%% What is asked for, with the labels that its legend shows.
panels() ->
    #{<<"panels">> := Panels} = erlmcp_shm_wire:term(read("ops/grafana-dashboard.json")),
    [
        {Expr, found(Legend, "(?<={{)\\w+(?=}})")}
     || #{<<"targets">> := Targets} <- Panels, #{<<"expr">> := Expr, <<"legendFormat">> := Legend} <- Targets
    ].

alerts() ->
    [<<>> | Rules] = re:split(read("ops/prometheus-rules.yml"), "(?s)(?:\\A.*?)?- alert: "),
    [
        begin
            [Expr] = found(Rule, "(?m)(?<=expr: ).*$"),
            {Expr, found(Rule, "(?<=labels\\.)\\w+")}
        end
     || Rule <- Rules
    ].

read(Relative) ->
    {ok, File} = erlmcp_shm_test:project_file(Relative),
    {ok, Text} = file:read_file(File),
    Text.

families() ->
    erlmcp_shm_metrics:families().

%%% By Prometheus

rules(_Config) ->
    case os:find_executable("promtool") of
        false ->
            {skip, "SKIPPED: no promtool on the PATH"};
        Promtool ->
            Run = fun(What, File) -> erlmcp_shm_test:run(Promtool, [What, "rules", File], [stderr_to_stdout]) end,
            {ok, Rules} = erlmcp_shm_test:project_file("ops/prometheus-rules.yml"),
            {ok, Tests} = erlmcp_shm_test:project_file("ops/prometheus-rules.test.yml"),
            [?assertMatch({0, _}, Run(What, File)) || {What, File} <- [{"check", Rules}, {"test", Tests}]]
    end.

%% Each query has an answer, all three say the same of the store, and no alert fires.
scraped(Config) ->
    case os:find_executable("prometheus") of
        false -> {skip, "SKIPPED: no prometheus on the PATH"};
        Prometheus -> scraped(Prometheus, exporters(Config), Config)
    end.

scraped(Program, Exporters, Config) ->
    Prometheus = prometheus(Program, Exporters, Config),
    Answered = fun(Expr) -> fun() -> query(Prometheus, Expr) =/= [] end end,
    %% Twice at least, for the rates.
    [
        erlmcp_shm_test:eventually(Answered(["count_over_time(up{job=\"", Job, "\"}[1m]) > 2 and up == 1"]))
     || {Job, _, _} <- Exporters
    ],
    [erlmcp_shm_test:eventually(Answered(filled_in(Expr))) || {Expr, _} <- panels()],
    [?assertNotEqual([], query(Prometheus, Name)) || {Expr, _} <- alerts(), Name <- names_in(Expr)],
    Value = fun(Expr) -> [#{<<"value">> := [_, Text]}] = query(Prometheus, Expr), Text end,
    [?assertEqual({Job, <<"3">>}, {Job, Value(["erlmcp_claude_flow_shm_entries{job=\"", Job, "\"}"])}) || {Job, _, _} <- Exporters],
    %% The client reads the same again and again: all but the first out of its own cache.
    erlmcp_shm_test:eventually(Answered("erlmcp_claude_flow_cache_hit_rate{job=\"erlmcp-client\", cache=\"l1\"} > 0.9")),
    #{<<"groups">> := [#{<<"rules">> := Rules}]} = api(Prometheus, "/api/v1/rules"),
    ?assertEqual(5, length(Rules)),
    [?assertMatch(#{<<"health">> := <<"ok">>, <<"alerts">> := []}, Rule) || Rule <- Rules],
    ok.

%% A node under load for AGREED_SECONDS, 5 unless it is said: what node, client and command export, what a Prometheus has
%% of them, and what `top' shows, is what the load was.
agreed(Config) ->
    case os:find_executable("prometheus") of
        false -> {skip, "SKIPPED: no prometheus on the PATH"};
        Prometheus -> agreed(Prometheus, exporters(Config), Config)
    end.

agreed(Program, Exporters, Config) ->
    Prometheus = prometheus(Program, Exporters, Config),
    Seconds = list_to_integer(os:getenv("AGREED_SECONDS", "5")),
    Before = erlang:monotonic_time(millisecond),
    Loader = spawn_link(fun() -> load(Before + Seconds * 1000, 0, 0) end),
    timer:sleep(Seconds * 1000 - 2000),
    #{<<"puts_per_second">> := Shown} = top(Config),
    Loader ! {self(), tell},
    {Puts, Deletes, Live} = receive {Loader, Done} -> Done after 60000 -> error(load_hangs) end,
    Rate = Puts * 1000 / (erlang:monotonic_time(millisecond) - Before),
    io:format(user, "~n~b puts and ~b deletes in ~b s: ~.1f puts/s; in the midst of them top showed ~.1f~n", [Puts, Deletes, Seconds, Rate, Shown]),
    %% Three were there before.
    Figures = [{"shm_puts_total", Puts + 3}, {"shm_deletes_total", Deletes}, {"shm_entries", Live + 3}],
    [
        erlmcp_shm_test:eventually(fun() ->
            [integer_to_binary(Count)] =:= [V || #{<<"value">> := [_, V]} <- query(Prometheus, [?PREFIX, Name, "{job=\"", Job, "\"}"])]
        end)
     || {Name, Count} <- Figures, {Job, _, _} <- Exporters
    ],
    {AllPuts, AllLive} = {Puts + 3, Live + 3},
    ?assertMatch(#{<<"puts">> := AllPuts, <<"deletes">> := Deletes, <<"entries">> := AllLive}, top(Config)),
    ok.

top(Config) ->
    {ok, Program} = erlmcp_shm_test:binary("erlmcp-shm"),
    {0, Json} = erlmcp_shm_test:run(Program, ["top", erlmcp_shm_test:path(Config), "--json", "--interval", "1"]),
    erlmcp_shm_wire:term(Json).

%% A put of one of 1,000 keys each millisecond or so, and each tenth time it is taken away again.
load(Until, Puts, Deletes) ->
    case erlang:monotonic_time(millisecond) < Until of
        true ->
            Key = integer_to_binary(Puts rem 1000),
            ok = erlmcp_shm_exporter:export_resource(Key, binary:copy(Key, 100), #{}),
            Gone =
                case Puts rem 10 of
                    0 -> ok = erlmcp_shm_exporter:invalidate(resource, Key), 1;
                    _ -> 0
                end,
            timer:sleep(1),
            load(Until, Puts + 1, Deletes + Gone);
        false ->
            Live = length([N || N <- lists:seq(0, min(Puts, 1000) - 1), N rem 10 =/= 0]),
            receive
                {From, tell} -> From ! {self(), {Puts, Deletes, Live}}
            end
    end.

%% As Grafana does it.
filled_in(Expr) ->
    lists:foldl(
        fun({Variable, Value}, Text) -> string:replace(Text, Variable, Value, all) end,
        Expr,
        [{"$__rate_interval", "1m"}, {"$job", ".*"}, {"$instance", ".*"}]
    ).

query(Prometheus, Expr) ->
    #{<<"result">> := Result} = api(Prometheus, ["/api/v1/query?query=", uri_string:quote(iolist_to_binary(Expr))]),
    Result.

api(Port, Path) ->
    %% It has room for 512 connections, and is asked more often than that.
    {200, _, Body} = erlmcp_shm_wire:request(Port, "GET", Path, [{"connection", "close"}]),
    #{<<"status">> := <<"success">>, <<"data">> := Data} = erlmcp_shm_wire:term(Body),
    Data.

prometheus(Program, Exporters, Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    {ok, Rules} = erlmcp_shm_test:project_file("ops/prometheus-rules.yml"),
    File = filename:join(Dir, "prometheus.yml"),
    ok = file:write_file(File, [
        "global:\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\n  evaluation_interval: 200ms\n",
        "rule_files: ['", Rules, "']\nscrape_configs:\n",
        [
            ["  - job_name: ", Job, "\n    static_configs: [{targets: ['127.0.0.1:", integer_to_list(Port), "']}]\n"]
         || {Job, Port, _} <- Exporters
        ]
    ]),
    Port = free_port(),
    Address = "127.0.0.1:" ++ integer_to_list(Port),
    _ = background(Program, [
        "--config.file=" ++ File,
        "--storage.tsdb.path=" ++ erlmcp_shm_test:path(Config) ++ ".tsdb",
        "--web.listen-address=" ++ Address
    ], filename:join(Dir, "prometheus.log")),
    erlmcp_shm_test:eventually(fun() -> reachable(Port) andalso element(1, erlmcp_shm_wire:request(Port, "GET", "/-/ready", [{"connection", "close"}])) =:= 200 end),
    Port.

%%% systemd

%% Each unit is one, and leaves little to whoever breaks into it.
units(Config) ->
    case os:find_executable("systemd-analyze") of
        false -> {skip, "SKIPPED: no systemd-analyze on the PATH"};
        Analyze -> [unit(Analyze, Unit, Config) || Unit <- ["erlmcp-node", "erlmcp-shm-serve"]]
    end.

%% With the programs where they are here.
unit(Analyze, Unit, Config) ->
    {ok, Command} = erlmcp_shm_test:binary("erlmcp-shm"),
    Programs = [{"/usr/local/bin/erlmcp-shm", filename:absname(Command)}, {"/usr/bin/erl", os:find_executable("erl")}],
    Text = lists:foldl(
        fun({There, Here}, Text) -> string:replace(Text, There, Here, all) end, read("ops/" ++ Unit ++ ".service"), Programs
    ),
    File = filename:join(proplists:get_value(priv_dir, Config), Unit ++ ".service"),
    ok = file:write_file(File, Text),
    Run = fun(Args) -> erlmcp_shm_test:run(Analyze, Args ++ [File], [stderr_to_stdout]) end,
    ?assertEqual({Unit, {0, <<>>}}, {Unit, Run(["verify", "--man=no"])}),
    ?assertMatch({Unit, {0, _}}, {Unit, Run(["security", "--offline=true", "--threshold=20", "--no-pager"])}).

%% What a default says is what the unit does without it.
defaults(_Config) ->
    [
        begin
            Text = read("ops/" ++ Unit ++ ".service"),
            {match, Variables} = re:run(read("ops/default/" ++ Unit), "(?m)^#(\\w+)=(.*)$", [global, {capture, all_but_first, binary}]),
            Set = lists:append([string:lexemes(Line, " ") || Line <- found(Text, "(?m)(?<=^Environment=).*$")]),
            [
                case Value of
                    <<>> -> ?assertMatch({match, _}, re:run(Text, ["(?m)^ExecStart=.*\\$", Name, "\\b"]), Name);
                    _ -> ?assert(lists:member(<<Name/binary, $=, Value/binary>>, Set), {Name, Value})
                end
             || [Name, Value] <- Variables
            ],
            ?assertEqual({Unit, []}, {Unit, [One || One <- Set, not is_default(One, Variables)]})
        end
     || Unit <- ["erlmcp-node", "erlmcp-shm-serve"]
    ].

%% HOME follows from the unit itself.
is_default(<<"HOME=", _/binary>>, _) -> true;
is_default(Set, Variables) -> lists:any(fun([Name, Value]) -> Set =:= <<Name/binary, $=, Value/binary>> end, Variables).

%%% Who exports: job, port, and what keeps it alive

exporters(Config) ->
    Path = erlmcp_shm_test:path(Config),
    Node = free_port(),
    {ok, _} = erlmcp_claude_flow:start_link(#{
        shared_memory => #{path => Path, size => 1 bsl 20},
        transports => [
            #{type => websocket, priority => 10, config => #{port => Node}},
            #{type => http, priority => 8, config => #{port => Node}}
        ]
    }),
    [ok = erlmcp_shm_exporter:export_resource(Uri, <<"hello">>, #{}) || Uri <- [?URI, <<"a">>, <<"b">>]],
    {Client, Running} = client(Node, Path),
    {Serve, Serving} = serve(Path),
    [erlmcp_shm_test:eventually(fun() -> reachable(Port) end) || Port <- [Client, Serve]],
    [{<<"erlmcp-node">>, Node, self()}, {<<"erlmcp-client">>, Client, Running}, {<<"erlmcp-shm-serve">>, Serve, Serving}].

serve(Path) ->
    Port = free_port(),
    {ok, Program} = erlmcp_shm_test:binary("erlmcp-shm"),
    {Port, background(Program, ["serve", Path, "--listen", "127.0.0.1:" ++ integer_to_list(Port)], Path ++ ".serve.log")}.

client(Node, Path) ->
    Url = ["\"ws://127.0.0.1:", integer_to_list(Node), "/mcp/ws\""],
    File = Path ++ ".toml",
    ok = file:write_file(File, [
        "[mcp.erlmcp]\nwebsocket.url = ", Url, "\nshared_memory.path = \"", Path, "\"\n"
    ]),
    Port = free_port(),
    {ok, Program} = erlmcp_shm_test:binary("examples/metrics"),
    {Port, background(Program, [File, "127.0.0.1:" ++ integer_to_list(Port), ?URI], Path ++ ".client.log")}.

%% Ends with the process that started it, however that ends: its input does.
background(Program, Args, Log) ->
    Script = "log=$1; shift; \"$@\" >\"$log\" 2>&1 & trap 'kill $!' EXIT; read -r _",
    Shell = os:find_executable("sh"),
    open_port({spawn_executable, Shell}, [{args, ["-c", Script, "sh", Log, Program | Args]}, binary]).

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

reachable(Port) ->
    case gen_tcp:connect("127.0.0.1", Port, []) of
        {ok, Socket} ->
            ok = gen_tcp:close(Socket),
            true;
        {error, econnrefused} ->
            false
    end.
