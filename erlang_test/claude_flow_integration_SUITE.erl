%% Node and reader together, as users meet them: what is published here, a Rust process that stays open reads.
-module(claude_flow_integration_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(E, erlmcp_shm_exporter).

all() ->
    [
        test_transport_selection,
        test_auto_failover,
        test_shm_export_read,
        test_cache_invalidation,
        test_latency_requirements
    ].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop(erlmcp_claude_flow),
    _ = persistent_term:erase(?MODULE),
    erlmcp_shm_test:stop().

%% The wake-ups are far away: what is seen at once is not seen because of them.
start(Config) ->
    Shared = #{path => erlmcp_shm_test:path(Config), size => 1 bsl 20, flush_interval => 60000},
    {ok, _} = erlmcp_claude_flow:start_link(#{shared_memory => Shared}),
    ok.

%%% Transports

test_transport_selection(_Config) ->
    {ok, _} = erlmcp_claude_flow:start_link(#{health_check_interval => 100}),
    Transports = [
        #{type => websocket, priority => 10, config => #{port => free_port()}},
        #{type => http, priority => 8, config => #{port => free_port()}},
        #{type => stdio, priority => 5, config => #{io_device => device()}}
    ],
    {ok, Ws} = erlmcp_claude_flow:select_transport(Transports, #{}),
    {ok, #{type := websocket, health := healthy, score := Score, port := Port}} = erlmcp_claude_flow:get_info(Ws),
    %% Nothing is known of it yet but that it was asked for first.
    ?assert(abs(Score - 0.75) < 1.0e-9),
    erlmcp_shm_test:eventually(fun() ->
        {ok, #{latency_ms := Latency}} = erlmcp_claude_flow:get_info(Ws),
        is_float(Latency)
    end),
    %% A probe that took long, as it may on a busy machine, puts it behind the next one until a quicker one came.
    erlmcp_shm_test:eventually(fun() -> {ok, Ws} =:= erlmcp_claude_flow:select_transport(Transports, #{}) end),
    %% Its port is closed under its hands: nobody could connect, and no probe can.
    [Listener] = [Ref || Ref <- listeners(), ranch:get_port(Ref) =:= Port],
    ok = ranch:suspend_listener(Listener),
    erlmcp_shm_test:eventually(fun() ->
        {ok, #{health := Health}} = erlmcp_claude_flow:get_info(Ws),
        Health =:= unhealthy
    end),
    {ok, Http} = erlmcp_claude_flow:select_transport(Transports, #{}),
    ?assertMatch({ok, #{type := http}}, erlmcp_claude_flow:get_info(Http)),
    ok = ranch:resume_listener(Listener),
    erlmcp_shm_test:eventually(fun() -> {ok, Ws} =:= erlmcp_claude_flow:select_transport(Transports, #{}) end).

%% Of ranch 1 and 2.
listeners() ->
    case ranch:info() of
        Map when is_map(Map) -> maps:keys(Map);
        List -> [Ref || {Ref, _} <- List]
    end.

%% The process that listens is killed under load. Each message arrives once, with a client of the one transport or at
%% the other; if nobody knows whether it arrives, its sender was told so.
test_auto_failover(_Config) ->
    Port = free_port(),
    {ok, _} = erlmcp_claude_flow:start_link(#{
        auto_failover => true,
        health_check_interval => 50,
        transports => [
            #{type => websocket, priority => 10, config => #{port => Port}},
            #{type => stdio, priority => 5, health_check => false, config => #{io_device => device()}}
        ]
    }),
    Arrived = ets:new(arrived, [public]),
    Tell = fun(Text) -> ets:update_counter(Arrived, Text, 1, {Text, 0}) end,
    persistent_term:put(?MODULE, Tell),
    _ = spawn_link(fun() -> erlmcp_shm_test_ws:read_for_ever(Port, "/mcp/ws", Tell) end),
    Connected = fun() ->
        [#{type := First} | _] = erlmcp_shm_route:all(),
        First =:= websocket andalso maps:get(active_connections, erlmcp_claude_flow:metrics()) =:= 2
    end,
    erlmcp_shm_test:eventually(Connected),
    Self = self(),
    Senders = [spawn_link(fun() -> Self ! {self(), load(N, 1, [])} end) || N <- lists:seq(1, 8)],
    Kills = [
        begin
            timer:sleep(100),
            erlmcp_shm_test:eventually(Connected),
            [#{type := websocket, pid := Pid}, _] = erlmcp_shm_route:all(),
            exit(Pid, kill)
        end
     || _ <- lists:seq(1, 5)
    ],
    erlmcp_shm_test:eventually(Connected),
    [Sender ! stop || Sender <- Senders],
    Sent = lists:append([
        receive
            {Sender, Results} -> Results
        end
     || Sender <- Senders
    ]),
    Taken = [Text || {Text, ok} <- Sent],
    Unconfirmed = [Text || {Text, {error, {unconfirmed, _}}} <- Sent],
    ?assertEqual(length(Sent), length(Taken) + length(Unconfirmed)),
    io:format(user, "~b kills of a listener: ~b messages taken, ~b unconfirmed~n", [
        length(Kills), length(Taken), length(Unconfirmed)
    ]),
    Missing = fun() -> [Text || Text <- Taken, not ets:member(Arrived, Text)] end,
    erlmcp_shm_test:eventually(fun() -> Missing() =:= [] end),
    ?assertEqual([], [Text || {Text, Times} <- ets:tab2list(Arrived), Times =/= 1]),
    ?assertMatch(#{failover_count := N} when N > 0, erlmcp_claude_flow:metrics()).

load(Sender, N, Sent) ->
    receive
        stop -> Sent
    after 0 ->
        Text = iolist_to_binary(io_lib:format("{\"n\":\"~b.~b\"}", [Sender, N])),
        Result = erlmcp_claude_flow:send(active, Text),
        [timer:sleep(1) || N rem 20 =:= 0],
        load(Sender, N + 1, [{Text, Result} | Sent])
    end.

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

%% An input that never ends and never says anything; what is written to it is told to the test.
device() ->
    spawn_link(fun Device() ->
        receive
            {io_request, From, As, Request} ->
                case write(Request) of
                    silent -> ok;
                    Reply -> From ! {io_reply, As, Reply}
                end,
                Device()
        end
    end).

write({put_chars, _Encoding, Chars}) ->
    Tell = persistent_term:get(?MODULE),
    [Tell(Line) || Line <- binary:split(iolist_to_binary(Chars), <<"\n">>, [global, trim])],
    ok;
write({setopts, _}) ->
    ok;
write(_Read) ->
    silent.

%%% What is published

test_shm_export_read(Config) ->
    ok = start(Config),
    Reader = reader(Config),
    Uri = <<"file:///test.txt">>,
    ?assertEqual(absent, read(Reader, Uri)),
    ok = ?E:export_resource(Uri, <<"test content">>, #{mime_type => <<"text/plain">>}),
    {Version, Metadata, Data} = read(Reader, Uri),
    ?assertEqual(<<"test content">>, Data),
    ?assertEqual(<<"{\"mime_type\":\"text/plain\"}">>, Metadata),
    %% And this node says the same.
    ?assertMatch({ok, Data, #{metadata := Metadata, version := Version}}, ?E:lookup(resource, Uri)),
    ?assertMatch(#{shm_entries := 1, shm_size_bytes := 1048576}, erlmcp_claude_flow:metrics()).

%% Each at the very next lookup: of a reader of shared memory; of a client that has it in its own process, which is
%% asked for it once more each time, so that it is there; and of one that has no shared memory and asks this node.
test_cache_invalidation(Config) ->
    Port = free_port(),
    Shared = #{path => erlmcp_shm_test:path(Config), size => 1 bsl 20, flush_interval => 60000},
    Ws = #{type => websocket, config => #{port => Port}},
    {ok, _} = erlmcp_claude_flow:start_link(#{shared_memory => Shared, transports => [Ws]}),
    Near = client(Config, Port, true),
    Far = client(Config, Port, false),
    Reader = reader(Config),
    Uri = <<"file:///test.txt">>,
    Reads = fun(Version, Text) ->
        ?assertEqual({Text, <<"L2">>, Version}, text(Near, Uri)),
        ?assertEqual({Text, <<"L1">>, Version}, text(Near, Uri)),
        ?assertEqual({Text, <<"L3">>, null}, text(Far, Uri, <<"bypass">>))
    end,
    ok = ?E:export_resource(Uri, <<"v1">>, #{}),
    {V1, _, <<"v1">>} = read(Reader, Uri),
    ok = Reads(V1, <<"v1">>),
    ok = ?E:export_resource(Uri, <<"v2">>, #{}),
    {V2, _, <<"v2">>} = read(Reader, Uri),
    ok = Reads(V2, <<"v2">>),
    ?assert(V2 > V1),
    ok = ?E:invalidate(resource, Uri),
    ?assertEqual(absent, read(Reader, Uri)),
    ?assertEqual({error, not_found}, ?E:lookup(resource, Uri)),
    %% This node is asked, and has none.
    [?assertEqual({error, <<"Refused">>}, text(Client, Uri)) || Client <- [Near, Far]],
    %% A name that comes back is newer than whatever it was.
    ok = ?E:export_resource(Uri, <<"v1">>, #{}),
    {V3, _, <<"v1">>} = read(Reader, Uri),
    ok = Reads(V3, <<"v1">>),
    ?assert(V3 > V2),
    %% And again and again: never what was there before, and in the process from the second time on.
    [
        begin
            Text = integer_to_binary(N),
            ok = ?E:export_resource(Uri, Text, #{}),
            {Text, <<"L2">>, Version} = text(Near, Uri),
            {Text, <<"L1">>, Version} = text(Near, Uri)
        end
     || N <- lists:seq(1, 200)
    ],
    ok = told(Far, Uri),
    [ok = erlmcp_shm_test_client:stop(Client) || Client <- [Near, Far]].

%% Who asks this node is also told: that a resource has changed, that the list has.
told(Client, Uri) ->
    {ok, null} = erlmcp_shm_test_client:ask(Client, subscribe, #{name => Uri}),
    hears(Client, #{<<"updated">> => Uri}, fun(N) -> ok = ?E:export_resource(Uri, integer_to_binary(N), #{}) end),
    hears(Client, #{<<"server">> => <<"ResourcesChanged">>}, fun(N) -> ok = ?E:export_resource(<<Uri/binary, N>>, <<>>, #{}) end).

%% The subscription goes its own way: until it is there, nothing is told.
hears(Client, News, Change) ->
    hears(Client, News, Change, 1).

hears(Client, News, Change, N) ->
    Change(N),
    case erlmcp_shm_test_client:ask(Client, next_change) of
        {ok, News} -> ok;
        {ok, _} when N < 100 -> hears(Client, News, Change, N + 1)
    end.

client(Config, Port, L2) ->
    Dir = proplists:get_value(priv_dir, Config),
    %% Of the node's configuration nothing but its name is looked at.
    Node = filename:join(Dir, integer_to_list(Port) ++ ".config"),
    Options = #{transport => "websocket", l2 => L2, more => "l1.ttl = \"10m\"\n"},
    erlmcp_shm_test_client:start(erlmcp_shm_test_client:toml(Config, Node, Options), stateless).

text(Client, Uri) ->
    text(Client, Uri, <<"use">>).

text(Client, Uri, Cache) ->
    case erlmcp_shm_test_client:ask(Client, read_resource, #{name => Uri, cache => Cache}) of
        {ok, #{<<"contents">> := [#{<<"text">> := Text}]}, Tier, Version} -> {Text, Tier, Version};
        {error, _} = Error -> Error
    end.

%% Times are shown, not asserted; that every one of the values is right is.
test_latency_requirements(Config) ->
    ok = start(Config),
    Uris = [<<"file:///test", (integer_to_binary(N))/binary, ".txt">> || N <- lists:seq(1, 100)],
    [ok = ?E:export_resource(Uri, <<"test content">>, #{}) || Uri <- Uris],
    Reader = reader(Config),
    [{_, _, <<"test content">>} = read(Reader, Uri) || Uri <- Uris],
    [Lookups, P50, P99] = ask(Reader, "time 10000 resource test content"),
    ?assertEqual(<<"1000000">>, Lookups),
    Us = fun(Ns) -> binary_to_integer(Ns) / 1000 end,
    Rows = [{"p50", Us(P50), "50"}, {"p99", Us(P99), "100"}],
    io:format(user, "~n~-10s ~12s ~12s~n", ["lookup", "measured, us", "budget, us"]),
    [io:format(user, "~-10s ~12.3f ~12s~n", [Name, Time, Budget]) || {Name, Time, Budget} <- Rows].

%%% The reader

reader(Config) ->
    {ok, Command} = erlmcp_shm_test:binary("examples/ask"),
    Path = erlmcp_shm_test:path(Config),
    open_port({spawn_executable, Command}, [{args, [Path]}, {line, 10000}, binary, exit_status]).

%% Version, metadata and data.
read(Reader, Uri) ->
    case ask(Reader, ["get resource ", Uri]) of
        [<<"absent">>] -> absent;
        [Version, Metadata, Data] -> {binary_to_integer(Version), unhex(Metadata), unhex(Data)}
    end.

ask(Reader, Question) ->
    true = port_command(Reader, [Question, $\n]),
    receive
        {Reader, {data, {eol, Answer}}} -> binary:split(Answer, <<" ">>, [global]);
        {Reader, {exit_status, Status}} -> error({reader_failed, Status})
    after 60000 -> error(reader_silent)
    end.

unhex(Hex) ->
    << <<(binary_to_integer(Byte, 16))>> || <<Byte:2/binary>> <= Hex >>.
