%% Very many WebSocket clients of one node, while something is published all the time: each of them sees every change or
%% a later one, the node's memory stays within bounds, and readers of shared memory go on as before. CROWD says how
%% many clients, CROWD_SECONDS for how long, CROWD_COMPRESSION=false that their one process is spared unpacking for all.
-module(erlmcp_shm_crowd_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(C, erlmcp_shm_test_client).
-define(URI, <<"crowd:counter">>).
-define(EVERY_MS, 10).

all() -> [crowd].

init_per_testcase(Case, Config) ->
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    ok.

crowd(Config) ->
    Clients = list_to_integer(os:getenv("CROWD", "200")),
    Seconds = list_to_integer(os:getenv("CROWD_SECONDS", "3")),
    Port = ?C:free_port(),
    File = ?C:configured(Config, Port),
    Node = ?C:start_node(File),
    ok = ?C:await_port(Port),
    Control = ?C:start(?C:toml(Config, File, #{transport => "http", l2 => false}), stateless),
    <<"published">> = call(Control, <<"tools">>, #{number => 100}),
    %% It counts once, so that there is something to subscribe to.
    First = counted(Control),
    Reader = reader(Config),
    Before = sizes(Control),
    Alone = lookups(Reader),
    Toml = ?C:toml(Config, File, #{
        transport => "websocket",
        l2 => false,
        mcp => "connect_timeout = \"30s\"\n",
        erlmcp => ["websocket.compression = ", os:getenv("CROWD_COMPRESSION", "true"), "\n"]
    }),
    Crowd = ?C:start(Toml, stateless),
    {ok, ConnectMs} = ?C:ask(Crowd, crowd, #{clients => Clients, name => ?URI, seconds => Seconds}),
    Idle = sizes(Control),
    <<"counting">> = call(Control, <<"count">>, #{uri => ?URI, ms => ?EVERY_MS}),
    Until = erlang:monotonic_time(millisecond) + Seconds * 1000,
    {Beside, Samples} = beside(Reader, Control, Until, [], []),
    Last = binary_to_integer(call(Control, <<"stop">>, #{})),
    {ok, Seen} = ?C:hear(Crowd, crowd),
    After = sizes(Control),
    shown(Clients, ConnectMs, Last, Seen, {Before, Idle, Samples, After}, {Alone, Beside}),
    ok = ?C:stop(Crowd),
    ok = ?C:stop(Control),
    true = port_close(Reader),
    ok = ?C:kill_node(Node),
    #{<<"fell">> := 0, <<"failed">> := 0, <<"last">> := Lasts, <<"fewest_reads">> := Fewest} = Seen,
    ?assert(Last > First),
    %% All of them, in the end, and each on the way there too.
    ?assertEqual(lists:duplicate(Clients, Last), Lasts),
    ?assert(Fewest > 2),
    %% A session has a change at most in its mailbox, and what its client sent.
    ?assert(lists:max([maps:get(<<"mailbox">>, Sample) || Sample <- Samples]) =< 2 * Clients).

counted(Control) ->
    <<"counting">> = call(Control, <<"count">>, #{uri => ?URI, ms => 1}),
    binary_to_integer(call(Control, <<"stop">>, #{})).

%% Lookups in another process, and the node's sizes, in turn.
beside(Reader, Control, Until, Lookups, Samples) ->
    {L, S} = {[lookups(Reader) | Lookups], [sizes(Control) | Samples]},
    case erlang:monotonic_time(millisecond) >= Until of
        true ->
            {L, S};
        false ->
            timer:sleep(200),
            beside(Reader, Control, Until, L, S)
    end.

call(Client, Name, Arguments) ->
    {ok, #{<<"content">> := [#{<<"text">> := Text}]}} = ?C:ask(Client, call_tool, #{name => Name, arguments => Arguments}),
    Text.

sizes(Control) ->
    {ok, Sizes} = erlmcp_shm_json:decode(call(Control, <<"sizes">>, #{})),
    Sizes.

reader(Config) ->
    {ok, Command} = erlmcp_shm_test:binary("examples/ask"),
    open_port({spawn_executable, Command}, [{args, [erlmcp_shm_test:path(Config)]}, {line, 10000}, binary, exit_status]).

%% p50 and p99 in ns of 20,000 lookups, each of which found what it should.
lookups(Reader) ->
    true = port_command(Reader, "time 200 tool {}\n"),
    receive
        {Reader, {data, {eol, Answer}}} ->
            [<<"20000">>, P50, P99] = binary:split(Answer, <<" ">>, [global]),
            {binary_to_integer(P50), binary_to_integer(P99)};
        {Reader, {exit_status, Status}} ->
            error({reader_failed, Status})
    after 60000 -> error(reader_silent)
    end.

%%% Figures

shown(Clients, ConnectMs, Last, Seen, {Before, Idle, Samples, After}, {Alone, Beside}) ->
    Row = fun(What, Figure) -> io:format(user, "  ~-52ts ~10ts~n", [What, Figure]) end,
    Number = fun integer_to_list/1,
    Mb = fun(Key, Sizes) -> Number(maps:get(Key, Sizes) div 1024) end,
    {P50s, P99s} = lists:unzip(Beside),
    io:format(user, "~n~b WebSocket clients of one node, with a publish every ~b ms~n", [Clients, ?EVERY_MS]),
    Row("ms until all were connected and had subscribed", Number(ConnectMs)),
    Row("published", Number(Last)),
    [Row(What, Number(maps:get(Key, Seen))) || {What, Key} <- [
        {"notifications heard, all together", <<"notices">>},
        {"times that some may have been missed", <<"gaps">>},
        {"reads after them, all together", <<"reads">>},
        {"reads of one client: fewest", <<"fewest_reads">>},
        {"median", <<"median_reads">>},
        {"most", <<"most_reads">>},
        {"values older than one read before", <<"fell">>},
        {"reads that failed", <<"failed">>}
    ]],
    Row("clients that ended with the last value", Number(length([L || L <- maps:get(<<"last">>, Seen), L =:= Last]))),
    Row("node's memory, MiB: alone", Mb(<<"rss">>, Before)),
    Row("with all connected", Mb(<<"rss">>, Idle)),
    Row("while publishing, first and last look", [Mb(<<"rss">>, lists:last(Samples)), " ", Mb(<<"rss">>, hd(Samples))]),
    Row("at most", Mb(<<"peak">>, After)),
    Row("fullest mailbox of any process", Number(lists:max([maps:get(<<"mailbox">>, Sample) || Sample <- Samples]))),
    Row("lookup in shared memory, ns, alone: p50, p99", io_lib:format("~b ~b", tuple_to_list(Alone))),
    Row("the same beside them: p50, p99 (medians)", io_lib:format("~b ~b", [median(P50s), median(P99s)])).

median(Figures) ->
    lists:nth((length(Figures) + 1) div 2, lists:sort(Figures)).
