%% The adapter of erlmcp's transports, with stand-ins for them (erlmcp_shm_test_line), and with those of erlmcp itself
%% where it is on the code path or in ERLMCP_LIBS.
-module(erlmcp_shm_transport_erlmcp_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(T, erlmcp_shm_transport_erlmcp).
-define(S, erlmcp_shm_test_erlmcp).
-define(L, erlmcp_shm_test_line).

all() ->
    [
        without_erlmcp,
        refused,
        tcp,
        sessions_of_a_listener,
        stdio,
        slow,
        inner_ends,
        under_the_gateway,
        real_erlmcp
    ].

init_per_testcase(_Case, Config) ->
    process_flag(trap_exit, true),
    Config.

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop(erlmcp_claude_flow),
    [?S:unload(Module) || Module <- [erlmcp_transport_tcp, erlmcp_transport_stdio, erlmcp_transport_http]],
    ok.

%%% Starts

without_erlmcp(_Config) ->
    [
        ?assertEqual({error, {no_erlmcp, Module}}, ?T:start_link(#{transport => Transport}, self()))
     || {Transport, Module} <- [{stdio, erlmcp_transport_stdio}, {tcp, erlmcp_transport_tcp}, {http, erlmcp_transport_http}]
    ].

refused(_Config) ->
    [
        ?assertEqual({error, {bad_config, [config | Path], Value}}, ?T:start_link(Config, self()))
     || {Config, Path, Value} <- [
            {#{}, [transport], undefined},
            {#{transport => websocket}, [transport], websocket},
            {#{transport => tcp, options => []}, [options], []},
            {#{transport => tcp, send_timeout => 0}, [send_timeout], 0},
            {#{transport => tcp, port => 1}, [port], 1},
            {tcp, [], tcp}
        ]
    ],
    Given = fun(Config) -> #{transports => [#{type => stdio, module => ?T, config => Config}]} end,
    ?assertEqual(
        {error, {bad_config, [transports, 0, config, transport], sse}},
        erlmcp_shm_config:claude_flow(Given(#{transport => sse}))
    ),
    {ok, #{transports := [#{config := Complete}]} = Flow} = erlmcp_shm_config:claude_flow(Given(#{transport => tcp})),
    ?assertEqual(#{transport => tcp, options => #{}, send_timeout => 5000}, Complete),
    ?assertEqual({ok, Flow}, erlmcp_shm_config:claude_flow(Flow)),
    %% What erlmcp itself refuses, and a module that is none of its transports.
    ok = ?S:stand_in(erlmcp_transport_http, ?L, [{start_link, 1}]),
    ?assertEqual({error, no_such_url}, ?T:start_link(#{transport => http, options => #{refuses => no_such_url}}, self())),
    ok = ?S:stand_in(erlmcp_transport_stdio, ?L, [{send, 2}]),
    ?assertEqual({error, {unsupported, erlmcp_transport_stdio}}, ?T:start_link(#{transport => stdio}, self())).

%%% Messages

tcp(_Config) ->
    {Listener, Port} = listen(),
    Transport = tcp_to(Port),
    Peer = accept(Listener),
    peers(1, Transport),
    ok = ?T:send(Transport, [<<"{\"a\":\n">>, "1}"]),
    ?assertEqual({ok, <<"{\"a\": 1}\n">>}, gen_tcp:recv(Peer, 0, 5000)),
    ok = gen_tcp:send(Peer, <<"{\"b\":2}\n{\"c\":3}\n">>),
    ?assertEqual([<<"{\"b\":2}">>, <<"{\"c\":3}">>], [heard(Transport), heard(Transport)]),
    {ok, Ms} = ?T:probe(Transport, 1000),
    ?assert(Ms >= 0),
    ?assertMatch(#{erlmcp := erlmcp_transport_tcp, peers := 1, received := 2}, ?T:get_info(Transport)),
    %% Nobody there, and back again.
    ok = gen_tcp:close(Peer),
    peers(0, Transport),
    ?assertEqual({error, no_peer}, ?T:send(Transport, <<"{}">>)),
    ?assertEqual({error, not_connected}, ?T:probe(Transport, 1000)),
    _ = accept(Listener),
    peers(1, Transport),
    ok = ?T:send(Transport, <<"{}">>),
    ok = ?T:close(Transport),
    ?assertEqual({error, closed}, ?T:send(Transport, <<"{}">>)),
    ?assertEqual({error, closed}, ?T:probe(Transport, 1000)),
    ?assertMatch(#{state := closed}, ?T:get_info(Transport)),
    ok = ?T:close(Transport).

%% Newer versions listen, and say of each connection's process that it is connected.
sessions_of_a_listener(_Config) ->
    {Listener, Port} = listen(),
    ok = ?S:stand_in(erlmcp_transport_tcp, ?L, [{start_link, 1}]),
    {ok, Transport} = ?T:start_link(#{transport => tcp, options => #{mode => server}}, self()),
    ?assertEqual({error, no_peer}, ?T:send(Transport, <<"{}">>)),
    ?assertMatch({ok, _}, ?T:probe(Transport, 1000)),
    Connections = [
        begin
            {ok, Pid} = ?L:start_link(#{port => Port, owner => Transport}),
            {Pid, accept(Listener)}
        end
     || _ <- [1, 2]
    ],
    peers(2, Transport),
    ok = ?T:send(Transport, <<"{}">>),
    [?assertEqual({ok, <<"{}\n">>}, gen_tcp:recv(Socket, 0, 5000)) || {_, Socket} <- Connections],
    %% One whose process ends is not sent to any more; the others are.
    [{First, _}, {_, Socket}] = Connections,
    exit(First, kill),
    peers(1, Transport),
    ok = ?T:send(Transport, <<"[]">>),
    ?assertEqual({ok, <<"[]\n">>}, gen_tcp:recv(Socket, 0, 5000)),
    ok = ?T:close(Transport).

%% Of both forms; and of what is printed, only ASCII.
stdio(_Config) ->
    [
        begin
            ok = ?S:stand_in(erlmcp_transport_stdio, ?L, [{start_link, Arity}, {send, 2}]),
            {ok, Transport} = ?T:start_link(#{transport => stdio}, self()),
            ok = ?T:send(Transport, <<"{\"a\":\"é λ 😀\"}"/utf8>>),
            Printed = heard(Transport),
            ?assertEqual(<<"printed {\"a\":\"\\u00e9 \\u03bb \\ud83d\\ude00\"}">>, Printed),
            <<"printed ", Json/binary>> = Printed,
            ?assertEqual({ok, #{<<"a">> => <<"é λ 😀"/utf8>>}}, erlmcp_shm_json:decode(Json)),
            ok = gen_server:call(inner(Transport), {simulate_input, <<"{}">>}),
            ?assertEqual(<<"{}">>, heard(Transport)),
            ?assertMatch({ok, _}, ?T:probe(Transport, 1000)),
            ?assertMatch(#{type := stdio, peers := 1}, ?T:get_info(Transport)),
            Inner = inner(Transport),
            ok = ?T:close(Transport),
            ?assertNot(is_process_alive(Inner))
        end
     || Arity <- [1, 2]
    ].

%%% Troubles

%% Nobody knows whether it was sent: it is not an error that invites to send it through another transport.
slow(_Config) ->
    {Listener, Port} = listen(),
    Transport = tcp_to(Port, #{hangs => true}, 100),
    _ = accept(Listener),
    peers(1, Transport),
    ?assertExit(timeout, ?T:send(Transport, <<"{}">>)),
    %% Meanwhile the adapter itself answers.
    ?assertMatch(#{peers := 1}, ?T:get_info(Transport)),
    ok = sys:suspend(inner(Transport)),
    ?assertEqual({error, timeout}, ?T:probe(Transport, 50)),
    ok = sys:resume(inner(Transport)),
    ok = ?T:close(Transport).

inner_ends(_Config) ->
    [
        begin
            {_, Port} = listen(),
            Transport = tcp_to(Port),
            inner(Transport) ! {end_with, Reason},
            receive
                {'EXIT', Transport, Ended} -> ?assertEqual(Expected, Ended)
            after 5000 -> error(still_there)
            end
        end
     || {Reason, Expected} <- [{normal, {shutdown, closed}}, {shutdown, shutdown}, {broken, broken}]
    ].

%% Started anew when erlmcp's process crashes, and what comes in goes to the gateway's owner.
under_the_gateway(_Config) ->
    ok = ?S:stand_in(erlmcp_transport_tcp, ?L, [{start_link, 1}]),
    {Listener, Port} = listen(),
    {ok, _} = erlmcp_claude_flow:start_link(#{
        owner => self(),
        transports => [#{type => stdio, module => ?T, config => #{transport => tcp, options => #{port => Port}}}]
    }),
    First = accept(Listener),
    erlmcp_shm_test:eventually(fun() -> erlmcp_claude_flow:send(active, <<"{}">>) =:= ok end),
    {ok, <<"{}\n">>} = gen_tcp:recv(First, 0, 5000),
    ok = gen_tcp:send(First, <<"[]\n">>),
    Transport =
        receive
            {transport_message, Pid, <<"[]">>} -> Pid
        after 5000 -> error(nothing_heard)
        end,
    {ok, #{type := stdio, peers := 1, health := healthy}} = erlmcp_claude_flow:get_info(Transport),
    exit(inner(Transport), kill),
    Second = accept(Listener),
    erlmcp_shm_test:eventually(fun() -> erlmcp_claude_flow:send(Transport, <<"{}">>) =:= ok end),
    {ok, <<"{}\n">>} = gen_tcp:recv(Second, 0, 5000).

%%% The real one

real_erlmcp(_Config) ->
    case erlmcp_shm_test_erlmcp:real_paths(erlmcp_transport_tcp) of
        [] ->
            {skip, "no erlmcp_transport_tcp on the code path, and none in ERLMCP_LIBS"};
        Paths ->
            Peer = erlmcp_shm_test:start_node(lists:append([["-pa", Path] || Path <- Paths])),
            try
                case erlmcp_shm_test:call(Peer, ?MODULE, real, []) of
                ok -> ok;
                {lacks, Function} -> {skip, io_lib:format("this erlmcp calls ~p, which it lacks", [Function])}
                end
            after
                erlmcp_shm_test:stop_node(Peer)
            end
    end.

real() ->
    _ = process_flag(trap_exit, true),
    {Listener, Port} = listen(),
    Options = #{mode => client, host => {127, 0, 0, 1}, port => Port},
    {ok, Transport} = ?T:start_link(#{transport => tcp, options => Options}, self()),
    Peer = accept(Listener),
    peers(1, Transport),
    ok = ?T:send(Transport, <<"{\"a\":1}">>),
    {ok, <<"{\"a\":1}\n">>} = gen_tcp:recv(Peer, 0, 5000),
    ok = gen_tcp:send(Peer, <<"{\"b\":2}\n">>),
    receive
        {transport_message, Transport, <<"{\"b\":2}">>} ->
            {ok, _} = ?T:probe(Transport, 1000),
            ?T:close(Transport);
        {'EXIT', Transport, {undef, [{Module, Name, Arguments, _} | _]}} ->
            {lacks, {Module, Name, length(Arguments)}}
    after 5000 -> error(nothing_heard)
    end.

%%% Tools

tcp_to(Port) ->
    tcp_to(Port, #{}, 5000).

tcp_to(Port, Options, Ms) ->
    ok = ?S:stand_in(erlmcp_transport_tcp, ?L, [{start_link, 1}]),
    Config = #{transport => tcp, options => Options#{port => Port}, send_timeout => Ms},
    {ok, Transport} = ?T:start_link(Config, self()),
    Transport.

listen() ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {packet, line}, {active, false}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    {Listener, Port}.

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener, 10000),
    Socket.

peers(N, Transport) ->
    erlmcp_shm_test:eventually(fun() -> maps:get(peers, ?T:get_info(Transport)) =:= N end).

heard(Transport) ->
    receive
        {transport_message, Transport, Message} -> Message
    after 5000 -> error(nothing_heard)
    end.

inner(Transport) ->
    {Inner, _} = gen_server:call(Transport, inner),
    Inner.
