%% The gateway over transports that are lines of TCP to peers, whose faults are real ones: peers that go away and come
%% back, processes that are killed.
-module(erlmcp_claude_flow_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(F, erlmcp_claude_flow).
-define(P, erlmcp_shm_test_peer).

all() ->
    [
        not_started,
        starts_without_anything,
        by_priority,
        selects_the_best,
        selects_nothing,
        selected_is_active,
        fails_over,
        open_breaker_without_failover,
        no_peer,
        data_that_is_none,
        down_without_failover,
        does_not_wait_for_the_gateway,
        killed_under_load,
        crashes_and_restarts,
        starts_later,
        ends_for_good,
        checks_heal_a_breaker,
        fails_back,
        unprobed,
        degraded_when_slow,
        multiplexing,
        closes,
        closes_what_hangs,
        closes_at_its_own_end,
        info,
        hands_over_what_comes_in,
        breaker_dies,
        breaker_disabled,
        exporter,
        killed_under_a_supervisor,
        telemetry
    ].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop(?F),
    erlmcp_shm_test:stop().

%%% Transports

transport(Type, Priority, Peer) ->
    #{
        type => Type,
        module => erlmcp_shm_test_transport,
        priority => Priority,
        config => #{type => Type, port => port(Peer)}
    }.

port(none) -> none;
port(Port) when is_integer(Port) -> Port;
port(Peer) -> ?P:port(Peer).

start(Transports) ->
    start(Transports, #{}).

start(Transports, Options) ->
    Defaults = #{transports => Transports, health_check_interval => 50},
    {ok, Pid} = ?F:start_link(maps:merge(Defaults, Options)),
    Pid.

%% The processes of the transports, in the order in which they are tried.
pids() ->
    [Pid || #{pid := Pid} <- erlmcp_shm_route:all()].

types() ->
    [Type || #{type := Type} <- erlmcp_shm_route:all()].

pid(Type) ->
    [Pid] = [Pid || #{type := T, pid := Pid} <- erlmcp_shm_route:all(), T =:= Type],
    Pid.

info(Type, Key) ->
    case ?F:get_info(pid(Type)) of
        {ok, #{Key := Value}} -> Value;
        %% Between two processes.
        {error, {unknown_transport, none}} -> none
    end.

became(Type, Key, Value) ->
    erlmcp_shm_test:eventually(fun() -> info(Type, Key) =:= Value end).

arrived(Peer, Lines) ->
    Expected = maps:from_list([{Line, 1} || Line <- Lines]),
    erlmcp_shm_test:eventually(fun() -> maps:with(Lines, ?P:lines(Peer)) =:= Expected end).

%%% Cases

not_started(_Config) ->
    NotStarted = {error, not_started},
    ?assertEqual(NotStarted, ?F:select_transport([transport(stdio, 5, none)], #{})),
    ?assertEqual(NotStarted, ?F:send(active, <<"m">>)),
    ?assertEqual(NotStarted, ?F:send(self(), <<"m">>)),
    ?assertEqual(NotStarted, ?F:close(self())),
    ?assertEqual(NotStarted, ?F:get_info(self())),
    ?assertEqual(ignore, ?F:start_link(#{enabled => false})),
    ?assertEqual({error, {bad_config, [transports, 0, priority], 11}}, ?F:start_link(#{transports => [transport(stdio, 11, none)]})).

starts_without_anything(_Config) ->
    {ok, Pid} = ?F:start_link(#{}),
    ?assertEqual({error, {already_started, Pid}}, ?F:start_link(#{})),
    ?assertEqual({error, all_transports_failed}, ?F:send(active, <<"m">>)),
    [?assertEqual({error, {unknown_transport, T}}, ?F:send(T, <<"m">>)) || T <- [self(), stdio, 17]],
    ?assertEqual({error, {unknown_transport, self()}}, ?F:close(self())).

by_priority(_Config) ->
    Peer = ?P:start(),
    _ = start([transport(stdio, 5, Peer), transport(websocket, 10, Peer), transport(http, 8, Peer)]),
    ?assertEqual([websocket, http, stdio], types()),
    ?assertEqual([active, standby, standby], [info(T, state) || T <- [websocket, http, stdio]]),
    ok = ?F:send(active, ["m", <<"1">>]),
    arrived(Peer, [<<"m1">>]).

selects_the_best(_Config) ->
    Peer = ?P:start(),
    Ws = ?P:start(),
    Wanted = [transport(websocket, 10, Ws), transport(http, 8, Peer), transport(stdio, 5, Peer)],
    _ = start([]),
    {ok, Pid} = ?F:select_transport(Wanted, #{}),
    ?assertMatch({ok, #{type := websocket, health := healthy}}, ?F:get_info(Pid)),
    ?assertEqual({ok, Pid}, ?F:select_transport(Wanted, #{})),
    %% Only what was asked for runs.
    ?assertEqual([websocket], types()),
    ok = ?P:stop(Ws),
    became(websocket, health, unhealthy),
    {ok, Other} = ?F:select_transport(Wanted, #{}),
    ?assertMatch({ok, #{type := http}}, ?F:get_info(Other)),
    ?assertEqual([http, websocket], types()).

selects_nothing(_Config) ->
    _ = start([]),
    Free = ?P:start(),
    ok = ?P:stop(Free),
    ?assertEqual({error, no_transports_available}, ?F:select_transport([], #{})),
    Nobody = [transport(websocket, 10, Free), transport(http, 5, Free)],
    ?assertEqual({error, no_transports_available}, ?F:select_transport(Nobody, #{})),
    ?assertEqual([], types()),
    ?assertEqual({error, {bad_config, [transports], x}}, ?F:select_transport(x, #{})),
    ?assertEqual(
        {error, {bad_config, [transports, 1, type], carrier_pigeon}},
        ?F:select_transport([transport(stdio, 5, Free), #{type => carrier_pigeon}], #{})
    ),
    %% The best of those that can be had.
    Peer = ?P:start(),
    {ok, Pid} = ?F:select_transport([transport(websocket, 10, Free), transport(stdio, 1, Peer)], #{}),
    ?assertMatch({ok, #{type := stdio}}, ?F:get_info(Pid)).

selected_is_active(_Config) ->
    Peer = ?P:start(),
    _ = start([]),
    {ok, First} = ?F:select_transport([transport(stdio, 5, Peer)], #{}),
    ?assertMatch({ok, #{state := active}}, ?F:get_info(First)),
    {ok, Second} = ?F:select_transport([transport(http, 5, Peer)], #{}),
    ?assertMatch({ok, #{state := standby}}, ?F:get_info(Second)),
    ok = ?F:send(active, <<"m">>),
    arrived(Peer, [<<"m">>]).

fails_over(_Config) ->
    {Ws, Stdio} = {?P:start(), ?P:start()},
    _ = start([transport(websocket, 10, Ws), transport(stdio, 5, Stdio)], #{health_check_interval => 60000}),
    ok = ?F:send(active, <<"1">>),
    arrived(Ws, [<<"1">>]),
    ok = ?P:stop(Ws),
    became(websocket, peers, 0),
    Pid = pid(websocket),
    ok = ?F:send(active, <<"2">>),
    %% Also what was meant for it by name.
    ok = ?F:send(Pid, <<"3">>),
    ?assertEqual([websocket, stdio], types()),
    ?assertMatch(#{failover_count := 2, failover_success_rate := 1.0}, ?F:metrics()),
    %% Five in a row: nothing is tried there any more.
    [ok = ?F:send(active, Line) || Line <- [<<"4">>, <<"5">>, <<"6">>]],
    became(websocket, breaker, open),
    became(stdio, state, active),
    ?assertEqual(unhealthy, info(websocket, health)),
    ok = ?F:send(active, <<"7">>),
    ?assertMatch(#{failover_count := 5, transport_type := stdio}, ?F:metrics()),
    ?assertEqual([<<"1">>], maps:keys(?P:lines(Ws))),
    arrived(Stdio, [<<"2">>, <<"3">>, <<"4">>, <<"5">>, <<"6">>, <<"7">>]),
    ok = ?P:stop(Stdio),
    became(stdio, peers, 0),
    ?assertEqual({error, all_transports_failed}, ?F:send(active, <<"8">>)),
    ?assertMatch(#{failover_count := 6, failover_success_rate := Rate} when Rate < 1, ?F:metrics()).

open_breaker_without_failover(_Config) ->
    {Ws, Stdio} = {?P:start(), ?P:start()},
    Options = #{auto_failover => false, circuit_breaker => #{failure_threshold => 2}},
    _ = start([transport(websocket, 10, Ws), transport(stdio, 5, Stdio)], Options),
    ok = ?P:stop(Ws),
    became(websocket, peers, 0),
    ?assertEqual({error, connection_lost}, ?F:send(active, <<"1">>)),
    ?assertEqual({error, connection_lost}, ?F:send(active, <<"2">>)),
    ?assertEqual({error, circuit_breaker_open}, ?F:send(active, <<"3">>)),
    became(websocket, health, unhealthy),
    ?assertEqual({error, circuit_breaker_open}, ?F:send(active, <<"4">>)),
    ?assertEqual(active, info(websocket, state)),
    ok = ?F:send(pid(stdio), <<"5">>),
    arrived(Stdio, [<<"5">>]),
    ?assertEqual([<<"5">>], maps:keys(?P:lines(Stdio))).

no_peer(_Config) ->
    Stdio = ?P:start(),
    _ = start([transport(websocket, 10, none), transport(http, 8, none), transport(stdio, 5, Stdio)]),
    Lines = [integer_to_binary(N) || N <- lists:seq(1, 20)],
    [ok = ?F:send(active, Line) || Line <- Lines],
    arrived(Stdio, Lines),
    ?assertEqual([closed, closed], [info(T, breaker) || T <- [websocket, http]]),
    ?assertEqual(active, info(websocket, state)),
    ok = ?F:close(pid(stdio)),
    ?assertEqual({error, no_peer}, ?F:send(active, <<"m">>)).

data_that_is_none(_Config) ->
    Peer = ?P:start(),
    _ = start([transport(stdio, 5, Peer)]),
    [?assertError(badarg, ?F:send(active, Bad)) || Bad <- [atom, 1, [256], [a], {<<"m">>}], _ <- lists:seq(1, 5)],
    ?assertEqual(closed, info(stdio, breaker)),
    ok = ?F:send(active, <<"m">>).

%% It is away, and comes back only when its peer does.
down_without_failover(_Config) ->
    Peer = ?P:start(),
    _ = start([transport(stdio, 5, Peer)], #{auto_failover => false}),
    Pid = pid(stdio),
    ok = ?P:stop(Peer),
    exit(Pid, kill),
    erlmcp_shm_test:eventually(fun() -> pids() =:= [none] end),
    ?assertEqual({error, down}, ?F:send(active, <<"1">>)),
    ?assertMatch({ok, #{state := down, health := unhealthy, peers := 0}}, ?F:get_info(Pid)),
    Again = ?P:start(?P:port(Peer)),
    erlmcp_shm_test:eventually(fun() -> ?F:send(active, <<"2">>) =:= ok end),
    arrived(Again, [<<"2">>]).

does_not_wait_for_the_gateway(_Config) ->
    {Ws, Stdio} = {?P:start(), ?P:start()},
    Gateway = start([transport(websocket, 10, Ws), transport(stdio, 5, Stdio)]),
    Pid = pid(websocket),
    ok = sys:suspend(Gateway),
    ok = ?F:send(active, <<"1">>),
    arrived(Ws, [<<"1">>]),
    exit(Pid, kill),
    erlmcp_shm_test:eventually(fun() -> not is_process_alive(Pid) end),
    ok = ?F:send(active, <<"2">>),
    ok = ?F:send(Pid, <<"3">>),
    arrived(Stdio, [<<"2">>, <<"3">>]),
    ?assertMatch({ok, #{type := websocket, peers := 0}}, ?F:get_info(Pid)),
    ?assertMatch(#{failover_count := 2, failover_success_rate := 1.0}, ?F:metrics()),
    ok = sys:resume(Gateway).

%% Each message arrives once, or its sender was told that it did not, or that nobody knows.
killed_under_load(_Config) ->
    {Ws, Stdio} = {?P:start(), ?P:start()},
    Gateway = start([transport(websocket, 10, Ws), transport(stdio, 5, Stdio)]),
    Self = self(),
    Senders = [spawn_link(fun() -> Self ! {self(), load(N)} end) || N <- lists:seq(1, 20)],
    Killed = length([exit(Pid, kill) || _ <- lists:seq(1, 10), Pid <- [killable()]]),
    [Sender ! stop || Sender <- Senders],
    Results = maps:from_list(
        lists:append([
            receive
                {Sender, Sent} -> Sent
            end
         || Sender <- Senders
        ])
    ),
    Of = fun(Wanted) -> [Line || {Line, Result} <- maps:to_list(Results), Wanted(Result)] end,
    Taken = Of(fun(Result) -> Result =:= ok end),
    Unconfirmed = Of(fun(Result) -> is_tuple(Result) andalso is_tuple(element(2, Result)) end),
    Refused = Of(fun(Result) -> Result =:= {error, all_transports_failed} end),
    ?assertEqual(map_size(Results), length(Taken) + length(Unconfirmed) + length(Refused)),
    Both = fun() -> maps:merge_with(fun(_, A, B) -> A + B end, ?P:lines(Ws), ?P:lines(Stdio)) end,
    erlmcp_shm_test:eventually(fun() -> map_size(maps:with(Taken, Both())) =:= length(Taken) end),
    Arrived = Both(),
    ?assertEqual(#{}, maps:filter(fun(_, Times) -> Times > 1 end, Arrived)),
    ?assertEqual(#{}, maps:with(Refused, Arrived)),
    ?assertEqual(Gateway, whereis(?F)),
    io:format(user, "~b kills: ~b messages taken, ~b refused, ~b unconfirmed~n", [
        Killed, length(Taken), length(Refused), length(Unconfirmed)
    ]),
    ?assertEqual(10, Killed),
    ?assert(maps:size(?P:lines(Ws)) > 0 andalso maps:size(?P:lines(Stdio)) > 0).

%% The active one, while the other could stand in for it.
killable() ->
    timer:sleep(20),
    case pids() of
        [Pid, Other] when is_pid(Pid), is_pid(Other) -> Pid;
        _ -> killable()
    end.

load(Sender) ->
    load(Sender, 1, []).

load(Sender, N, Sent) ->
    receive
        stop -> Sent
    after 0 ->
        Line = iolist_to_binary(io_lib:format("~b.~b", [Sender, N])),
        Result = ?F:send(active, Line),
        [timer:sleep(1) || Result =/= ok],
        load(Sender, N + 1, [{Line, Result} | Sent])
    end.

%% More often than a supervisor would stand.
crashes_and_restarts(_Config) ->
    Peer = ?P:start(),
    Gateway = start([transport(stdio, 5, Peer)]),
    First = pid(stdio),
    [
        begin
            Pid = pid(stdio),
            exit(Pid, kill),
            erlmcp_shm_test:eventually(fun() -> is_pid(pid(stdio)) andalso pid(stdio) =/= Pid end)
        end
     || _ <- lists:seq(1, 6)
    ],
    ?assertEqual(Gateway, whereis(?F)),
    ?assertMatch({ok, #{restarts := 6, state := active}}, ?F:get_info(pid(stdio))),
    %% Who knew the first still reaches it.
    ok = ?F:send(First, <<"m">>),
    arrived(Peer, [<<"m">>]),
    ?assertMatch({ok, #{restarts := 6}}, ?F:get_info(First)).

starts_later(_Config) ->
    Peer = ?P:start(),
    ok = ?P:stop(Peer),
    _ = start([transport(stdio, 5, Peer)]),
    ?assertEqual([none], pids()),
    ?assertEqual({error, all_transports_failed}, ?F:send(active, <<"1">>)),
    Later = ?P:start(?P:port(Peer)),
    erlmcp_shm_test:eventually(fun() -> ?F:send(active, <<"2">>) =:= ok end),
    arrived(Later, [<<"2">>]).

ends_for_good(_Config) ->
    Peer = ?P:start(),
    _ = start([transport(websocket, 10, Peer), transport(http, 8, Peer), transport(stdio, 5, Peer)]),
    [pid(Type) ! {end_with, Reason} || {Type, Reason} <- [{websocket, normal}, {http, {shutdown, eof}}]],
    erlmcp_shm_test:eventually(fun() -> types() =:= [stdio] end),
    ok = ?F:send(active, <<"m">>).

%% Nothing is sent there any more, so checks are its trials.
checks_heal_a_breaker(_Config) ->
    {Ws, Stdio} = {?P:start(), ?P:start()},
    Breaker = #{failure_threshold => 1, timeout_ms => 100},
    _ = start([transport(websocket, 10, Ws), transport(stdio, 5, Stdio)], #{circuit_breaker => Breaker}),
    ok = ?P:stop(Ws),
    became(websocket, peers, 0),
    ok = ?F:send(active, <<"1">>),
    became(stdio, state, active),
    erlmcp_shm_test:eventually(fun() -> info(websocket, breaker) =/= closed andalso info(websocket, health) =:= unhealthy end),
    _ = ?P:start(?P:port(Ws)),
    became(websocket, breaker, closed),
    became(websocket, health, healthy).

fails_back(_Config) ->
    {Ws, Stdio} = {?P:start(), ?P:start()},
    Second = (transport(stdio, 5, Stdio))#{health_check => false},
    _ = start([transport(websocket, 10, Ws), Second]),
    ok = ?P:stop(Ws),
    became(stdio, state, active),
    ok = ?F:send(active, <<"1">>),
    Again = ?P:start(?P:port(Ws)),
    became(websocket, state, active),
    ok = ?F:send(active, <<"2">>),
    arrived(Stdio, [<<"1">>]),
    arrived(Again, [<<"2">>]),
    ?assertEqual([websocket, stdio], types()).

%% It is well as long as its process lives, whatever a probe would say.
unprobed(_Config) ->
    Peer = ?P:start(),
    _ = start([(transport(stdio, 5, Peer))#{health_check => false}]),
    ok = ?P:stop(Peer),
    became(stdio, peers, 0),
    timer:sleep(300),
    {ok, #{health := Health, latency_ms := Latency, score := Score}} = ?F:get_info(pid(stdio)),
    ?assertEqual({healthy, undefined}, {Health, Latency}),
    ?assert(abs(Score - 0.7) < 1.0e-9).

degraded_when_slow(_Config) ->
    Peer = ?P:start(),
    _ = start([transport(stdio, 10, Peer)], #{health_check_interval => 400}),
    became(stdio, health, healthy),
    ?P:slow(Peer, 150),
    became(stdio, health, degraded),
    {ok, #{latency_ms := Latency, score := Score}} = ?F:get_info(pid(stdio)),
    ?assert(Latency > 0.0),
    ?assert(Score < 0.75),
    ?P:slow(Peer, 0),
    became(stdio, health, healthy).

multiplexing(_Config) ->
    Peers = [?P:start() || _ <- lists:seq(1, 3)],
    Types = [websocket, http, stdio],
    _ = start([transport(T, 8, P) || {T, P} <- lists:zip(Types, Peers)], #{multiplexing => true}),
    Lines = [integer_to_binary(N) || N <- lists:seq(1, 300)],
    [ok = ?F:send(active, Line) || Line <- Lines],
    erlmcp_shm_test:eventually(fun() -> lists:sum([map_size(?P:lines(P)) || P <- Peers]) =:= 300 end),
    %% Of 300, each has its share (fewer than 30 is as good as impossible).
    [?assert(map_size(?P:lines(P)) >= 30) || P <- Peers],
    %% One that is away takes nothing, and nothing is lost.
    ok = ?P:stop(hd(Peers)),
    became(websocket, health, unhealthy),
    More = [integer_to_binary(N) || N <- lists:seq(301, 400)],
    [ok = ?F:send(active, Line) || Line <- More],
    erlmcp_shm_test:eventually(fun() ->
        lists:sum([map_size(maps:with(More, ?P:lines(P))) || P <- tl(Peers)]) =:= 100
    end).

closes(_Config) ->
    Peer = ?P:start(),
    Gateway = start([transport(websocket, 10, Peer), transport(stdio, 5, Peer)]),
    Pid = pid(websocket),
    Lines = [integer_to_binary(N) || N <- lists:seq(1, 1000)],
    [ok = ?F:send(Pid, Line) || Line <- Lines],
    ok = ?F:close(Pid),
    ?assertNot(is_process_alive(Pid)),
    arrived(Peer, Lines),
    ?assertEqual([stdio], types()),
    ?assertEqual(active, info(stdio, state)),
    Unknown = {error, {unknown_transport, Pid}},
    ?assertEqual(Unknown, ?F:send(Pid, <<"m">>)),
    ?assertEqual(Unknown, ?F:close(Pid)),
    ?assertEqual(Unknown, ?F:get_info(Pid)),
    %% It does not come back.
    timer:sleep(200),
    ?assertEqual([stdio], types()),
    ok = ?F:send(active, <<"m">>),
    ?assertEqual(Gateway, whereis(?F)).

closes_what_hangs(_Config) ->
    Peer = ?P:start(),
    #{config := Config} = Transport = transport(websocket, 10, Peer),
    _ = start([Transport#{config := Config#{close => hangs}}, transport(stdio, 5, Peer)]),
    Pid = pid(websocket),
    Self = self(),
    spawn_link(fun() -> Self ! {closed, ?F:close(Pid)} end),
    %% Nobody else waits for it.
    erlmcp_shm_test:eventually(fun() -> types() =:= [stdio] end),
    ?assert(is_process_alive(Pid)),
    ok = ?F:send(active, <<"m">>),
    receive
        {closed, ok} -> ?assertNot(is_process_alive(Pid))
    after 20000 -> error(never_closed)
    end.

closes_at_its_own_end(_Config) ->
    Peer = ?P:start(),
    _ = start([transport(T, 5, Peer) || T <- [websocket, stdio]]),
    Pids = pids(),
    Lines = [integer_to_binary(N) || N <- lists:seq(1, 500)],
    [ok = ?F:send(Pid, [Line, suffix(Pid)]) || Pid <- Pids, Line <- Lines],
    ok = gen_server:stop(?F),
    ?assertEqual([false, false], [is_process_alive(Pid) || Pid <- Pids]),
    arrived(Peer, [iolist_to_binary([Line, suffix(Pid)]) || Pid <- Pids, Line <- Lines]),
    ?assertEqual([undefined, undefined], [whereis(Name) || Name <- [erlmcp_shm_transport_sup, erlmcp_shm_metrics]]),
    _ = start([]).

suffix(Pid) -> pid_to_list(Pid).

info(_Config) ->
    Peer = ?P:start(),
    _ = start([transport(websocket, 10, Peer)]),
    Pid = pid(websocket),
    erlmcp_shm_test:eventually(fun() -> info(websocket, latency_ms) =/= undefined end),
    [ok = ?F:send(active, <<"m">>) || _ <- lists:seq(1, 100)],
    erlmcp_shm_test:eventually(fun() -> info(websocket, throughput) =/= undefined end),
    {ok, Info} = ?F:get_info(Pid),
    ?assertMatch(
        #{
            type := websocket,
            state := active,
            health := healthy,
            score := _,
            latency_ms := _,
            throughput := _,
            peers := 1,
            breaker := closed,
            restarts := 0
        },
        Info
    ),
    #{score := Score, latency_ms := Latency, throughput := Throughput} = Info,
    ?assertEqual(Score, erlmcp_shm_health:score(healthy, Latency, Throughput, 10)).

hands_over_what_comes_in(_Config) ->
    Peer = ?P:start(),
    _ = start([transport(stdio, 5, Peer)], #{owner => self()}),
    Pid = pid(stdio),
    ok = ?F:send(active, <<"hello">>),
    arrived(Peer, [<<"hello">>]),
    _ = ?P:say(Peer, <<"welcome">>),
    receive
        {transport_message, Pid, Line} -> ?assertEqual(<<"welcome">>, Line)
    after 5000 -> error(nothing_came)
    end,
    %% Nor is the gateway troubled by an owner that is not there.
    ok = gen_server:stop(?F),
    Gateway = start([transport(stdio, 5, Peer)], #{owner => nobody_of_this_name}),
    ok = ?F:send(active, <<"again">>),
    arrived(Peer, [<<"again">>]),
    _ = ?P:say(Peer, <<"welcome">>),
    ?assertEqual({error, unknown_call}, gen_server:call(Gateway, what)).

%% Its place is taken by another one.
breaker_dies(_Config) ->
    Peer = ?P:start(),
    Gateway = start([transport(stdio, 5, Peer)]),
    {links, Links} = process_info(Gateway, links),
    [Breaker] = [Pid || Pid <- Links, proc_lib:translate_initial_call(Pid) =:= {erlmcp_shm_breaker, init, 1}],
    exit(Breaker, kill),
    erlmcp_shm_test:eventually(fun() -> not is_process_alive(Breaker) end),
    _ = sys:get_state(Gateway),
    ok = ?P:stop(Peer),
    became(stdio, peers, 0),
    [?assertEqual({error, all_transports_failed}, ?F:send(active, <<"m">>)) || _ <- lists:seq(1, 5)],
    became(stdio, breaker, open),
    ?assertEqual(Gateway, whereis(?F)).

breaker_disabled(_Config) ->
    Peer = ?P:start(),
    _ = start([transport(stdio, 5, Peer)], #{circuit_breaker => #{enabled => false}}),
    ok = ?P:stop(Peer),
    became(stdio, peers, 0),
    [?assertEqual({error, all_transports_failed}, ?F:send(active, <<"m">>)) || _ <- lists:seq(1, 20)],
    Again = ?P:start(?P:port(Peer)),
    ok = ?F:send(active, <<"m">>),
    arrived(Again, [<<"m">>]).

exporter(Config) ->
    Path = erlmcp_shm_test:path(Config),
    Shared = #{path => Path, size => 1 bsl 20},
    _ = start([], #{shared_memory => Shared}),
    ok = erlmcp_shm_exporter:export_resource(<<"k">>, <<"v">>, #{}),
    ok = gen_server:stop(?F),
    ?assertEqual({error, not_started}, erlmcp_shm_exporter:info()),
    %% One that runs is left alone.
    Own = erlmcp_shm_test:start(Shared),
    _ = start([], #{shared_memory => Shared#{path := Path ++ ".other"}}),
    ok = gen_server:stop(?F),
    ?assertEqual(Own, whereis(erlmcp_shm_exporter)),
    ?assertNot(filelib:is_file(Path ++ ".other")),
    ok = gen_server:stop(erlmcp_shm_exporter),
    NoFolder = Shared#{path := filename:join(Path, "no_folder.shm")},
    ?assertMatch({error, {failed_to_create_shm, _}}, ?F:start_link(#{shared_memory => NoFolder})).

%% With what it had to close still closing, it comes back, and so do its transports.
killed_under_a_supervisor(_Config) ->
    Peer = ?P:start(),
    Options = #{transports => [transport(websocket, 10, Peer), transport(stdio, 5, Peer)]},
    {ok, Sup} = supervisor:start_link(erlmcp_shm_sup, {#{enabled => false}, node}),
    {ok, First} = supervisor:start_child(Sup, ?F:child_spec(Options)),
    Old = pids(),
    exit(First, kill),
    erlmcp_shm_test:eventually(fun() -> not lists:member(whereis(?F), [undefined, First]) andalso length(pids()) =:= 2 end),
    ok = ?F:send(active, <<"m">>),
    arrived(Peer, [<<"m">>]),
    ?assertEqual([false, false], [is_process_alive(Pid) || Pid <- Old]),
    ok = gen_server:stop(Sup),
    ?assertEqual({error, not_started}, ?F:send(active, <<"m">>)).

%% The module telemetry as far as it is called, standing in for the application.
telemetry(_Config) ->
    Self = self(),
    Forms = [
        {attribute, 1, module, telemetry},
        {attribute, 1, export, [{execute, 3}]},
        {function, 1, execute, 3, [
            {clause, 1, [{var, 1, 'E'}, {var, 1, 'M'}, {var, 1, 'D'}], [], [
                {op, 1, '!', {atom, 1, telemetry_test}, {tuple, 1, [{atom, 1, event}, {var, 1, 'E'}, {var, 1, 'M'}, {var, 1, 'D'}]}}
            ]}
        ]}
    ],
    {ok, telemetry, Binary} = compile:forms(Forms),
    true = register(telemetry_test, Self),
    case code:load_binary(telemetry, "telemetry", Binary) of
        {module, telemetry} -> ok
    end,
    try
        {Ws, Stdio} = {?P:start(), ?P:start()},
        _ = start([transport(websocket, 10, Ws), transport(stdio, 5, Stdio)], #{circuit_breaker => #{failure_threshold => 1}}),
        ok = ?P:stop(Ws),
        became(websocket, peers, 0),
        ok = ?F:send(active, <<"m">>),
        exit(pid(stdio), kill),
        [
            receive
                {event, [erlmcp_claude_flow | Event], Measurements, Metadata} when
                    is_map(Measurements), is_map(Metadata)
                ->
                    ok
            after 5000 -> error({no_event, Event})
            end
         || Event <- [[transport, up], [failover], [breaker], [active], [transport, down], [health_check]]
        ]
    after
        erlmcp_shm_test:stop(?F),
        true = unregister(telemetry_test),
        true = code:delete(telemetry),
        code:purge(telemetry)
    end.
