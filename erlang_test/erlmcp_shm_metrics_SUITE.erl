%% What is measured, as a map and as Prometheus reads it.
-module(erlmcp_shm_metrics_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(F, erlmcp_claude_flow).
-define(M, erlmcp_shm_metrics).
-define(P, erlmcp_shm_test_peer).

all() ->
    [
        nothing_runs,
        every_key,
        clients_add_up,
        last_report_counts,
        dead_sessions_do_not,
        bad_reports,
        percentiles,
        specified_names,
        text,
        registry,
        promtool
    ].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop(?F),
    erlmcp_shm_test:stop().

start(Config) ->
    Peer = ?P:start(),
    Shared = #{path => erlmcp_shm_test:path(Config), size => 1 bsl 20},
    Transports = [
        #{type => Type, priority => P, module => erlmcp_shm_test_transport, config => #{type => Type, port => Port}}
     || {Type, P, Port} <- [{websocket, 10, none}, {stdio, 5, ?P:port(Peer)}]
    ],
    {ok, _} = ?F:start_link(#{transports => Transports, shared_memory => Shared}),
    Peer.

%% A process that reports and then lives on.
session(Params) ->
    Self = self(),
    Pid = spawn(fun Loop() ->
        receive
            {report, Next} ->
                ok = ?M:client_report(self(), Next),
                Self ! reported,
                Loop();
            stop ->
                ok
        end
    end),
    report(Pid, Params),
    Pid.

report(Pid, Params) ->
    Pid ! {report, Params},
    receive
        reported -> ok
    end,
    %% Once it answers, it has done what came before.
    {error, unknown_call} = gen_server:call(?M, anything).

params(L1, L2, Missed, Compliant, Buckets) ->
    #{
        <<"transport_type">> => <<"websocket">>,
        <<"reads_l1">> => L1,
        <<"reads_l2">> => L2,
        <<"reads_missed">> => Missed,
        <<"latency_count">> => lists:sum([N || [_, N] <- Buckets]),
        <<"latency_sum_ns">> => lists:sum([Ns * N || [Ns, N] <- Buckets]),
        <<"latency_compliant">> => Compliant,
        <<"latency_buckets">> => Buckets,
        <<"failovers">> => 1
    }.

near(Expected, Actual) ->
    ?assert(abs(Expected - Actual) < 1.0e-9, {Expected, Actual}).

%%%

nothing_runs(_Config) ->
    ok = ?M:client_report(self(), params(1, 1, 1, 1, [])),
    ?assertEqual(
        #{
            transport_type => none,
            transport_health => unhealthy,
            transports_unavailable => [],
            active_connections => 0,
            cache_hit_rate_l1 => 0.0,
            cache_hit_rate_l2 => 0.0,
            cache_miss_rate => 0.0,
            latency_p50_us => 0,
            latency_p99_us => 0,
            latency_p50_ns => 0,
            latency_p99_ns => 0,
            sona_compliance_pct => 0.0,
            failover_count => 0,
            failover_success_rate => 1.0,
            shm_size_bytes => 0,
            shm_entries => 0,
            shm_fragmentation => 0.0,
            reporting_clients => 0
        },
        ?F:metrics()
    ),
    ?assertMatch({match, _}, re:run(?M:prometheus(), "latency_seconds{quantile=\"0.5\"} NaN\n")),
    ?assertMatch({match, _}, re:run(?M:prometheus(), "_shm_up 0\n")),
    ?assertEqual(nomatch, re:run(?M:prometheus(), "shm_(?!up)")).

every_key(Config) ->
    Peer = start(Config),
    ok = erlmcp_shm_exporter:export_resource(<<"k">>, <<"v">>, #{}),
    %% Nobody is connected to the first, so the second takes over.
    [ok = ?F:send(active, <<"m">>) || _ <- [1, 2, 3]],
    _ = session(params(990, 9, 1, 999, [[30, 990], [400, 9], [2000000, 1]])),
    Metrics = ?F:metrics(),
    ?assertMatch(
        #{
            transport_type := websocket,
            transport_health := healthy,
            active_connections := 1,
            cache_hit_rate_l1 := 0.99,
            cache_hit_rate_l2 := 0.009,
            cache_miss_rate := 0.001,
            latency_p50_us := 1,
            latency_p99_us := 1,
            latency_p50_ns := 30,
            latency_p99_ns := 30,
            sona_compliance_pct := 99.9,
            failover_count := 3,
            failover_success_rate := 1.0,
            shm_size_bytes := 1048576,
            shm_entries := 1,
            shm_fragmentation := +0.0,
            reporting_clients := 1
        },
        Metrics
    ),
    ok = ?P:stop(Peer),
    erlmcp_shm_test:eventually(fun() -> maps:get(active_connections, ?F:metrics()) =:= 0 end).

clients_add_up(Config) ->
    _ = start(Config),
    _ = [session(params(N, 2 * N, 3 * N, 4 * N, [[1000, 3 * N], [70000, 3 * N]])) || N <- [1, 10, 100]],
    #{
        cache_hit_rate_l1 := L1,
        cache_hit_rate_l2 := L2,
        cache_miss_rate := Miss,
        latency_p50_us := 1,
        latency_p99_us := 70,
        sona_compliance_pct := Pct,
        reporting_clients := 3
    } = ?F:metrics(),
    near(1 / 6, L1),
    near(2 / 6, L2),
    near(3 / 6, Miss),
    near(400 / 6, Pct).

last_report_counts(Config) ->
    _ = start(Config),
    Session = session(params(1, 0, 0, 1, [[10, 1]])),
    report(Session, params(3, 1, 0, 4, [[10, 4]])),
    ?assertMatch(#{cache_hit_rate_l1 := 0.75, reporting_clients := 1}, ?F:metrics()),
    %% And it is not forgotten before its time: one process, one monitor.
    ?assertEqual({monitors, [{process, Session}]}, process_info(whereis(?M), monitors)).

dead_sessions_do_not(Config) ->
    _ = start(Config),
    Sessions = [session(params(1, 1, 0, 1, [])) || _ <- lists:seq(1, 50)],
    ?assertMatch(#{reporting_clients := 50}, ?F:metrics()),
    Killed = [exit(Session, kill) || Session <- lists:sublist(Sessions, 25)],
    25 = length(Killed),
    [Session ! stop || Session <- lists:nthtail(30, Sessions)],
    erlmcp_shm_test:eventually(fun() -> maps:get(reporting_clients, ?F:metrics()) =:= 5 end).

%% They come from outside, and change nothing.
bad_reports(Config) ->
    _ = start(Config),
    Good = params(1, 0, 0, 1, [[10, 1]]),
    Session = session(Good),
    Bad = [
        {<<"reads_l1">>, -1},
        {<<"reads_l2">>, 0.5},
        {<<"reads_missed">>, <<"1">>},
        {<<"latency_sum_ns">>, 1 bsl 64},
        {<<"latency_count">>, null},
        {<<"latency_compliant">>, []},
        {<<"latency_buckets">>, #{}},
        {<<"latency_buckets">>, [[1]]},
        {<<"latency_buckets">>, [[1, 2, 3]]},
        {<<"latency_buckets">>, [[1, -2]]},
        {<<"latency_buckets">>, [1, 2]},
        {<<"latency_buckets">>, [[N, 1] || N <- lists:seq(1, 5000)]}
    ],
    [report(Session, Good#{Key => Value, <<"reads_l2">> => 5}) || {Key, Value} <- Bad, Key =/= <<"reads_l2">>],
    report(Session, Good#{<<"reads_l2">> => 0.5}),
    ?assertMatch(#{cache_hit_rate_l1 := 1.0, cache_hit_rate_l2 := +0.0, latency_p99_ns := 10}, ?F:metrics()),
    %% One that says less says nothing of the rest.
    report(Session, #{}),
    ?assertMatch(#{cache_hit_rate_l1 := +0.0, reporting_clients := 1}, ?F:metrics()).

%% Rank max(1, round(n p / 100)), of the sum of all.
percentiles(Config) ->
    _ = start(Config),
    Session = session(params(1, 0, 0, 1, [[7, 1]])),
    At = fun(Buckets) ->
        report(Session, params(1, 0, 0, 1, Buckets)),
        #{latency_p50_ns := P50, latency_p99_ns := P99} = ?F:metrics(),
        {P50, P99}
    end,
    ?assertEqual({7, 7}, At([[7, 1]])),
    ?assertEqual({1, 100}, At([[1, 98], [100, 2]])),
    ?assertEqual({1, 1}, At([[1, 99], [100, 1]])),
    ?assertEqual({50, 99}, At([[N, 1] || N <- lists:seq(1, 100)])),
    %% In whatever order they come.
    ?assertEqual({50, 99}, At([[N, 1] || N <- lists:seq(100, 1, -1)])),
    _ = session(params(1, 0, 0, 1, [[N, 1] || N <- lists:seq(101, 200)])),
    ?assertMatch(#{latency_p50_ns := 100, latency_p99_ns := 198}, ?F:metrics()).

specified_names(_Config) ->
    Specified = [
        {gauge, "cache_hit_rate cache_miss_rate sona_compliance_ratio transport_health circuit_breaker_state"},
        {gauge, "active_connections failover_success_ratio shm_size_bytes shm_entries shm_fragmentation_ratio"},
        {gauge, "shm_up shm_fill_ratio shm_generation shm_heartbeat_age_seconds"},
        {counter, "failover_total shm_puts_total shm_deletes_total shm_rollovers_total"},
        {summary, "latency_seconds"}
    ],
    Expected = [
        {list_to_binary(["erlmcp_claude_flow_", Name]), Type}
     || {Type, Names} <- Specified, Name <- string:lexemes(Names, " ")
    ],
    ?assertEqual(lists:sort(Expected), lists:sort(?M:families())).

everything_at_once(Config) ->
    _ = start(Config),
    ok = erlmcp_shm_exporter:export_resource(<<"k">>, <<"v">>, #{}),
    ok = ?F:send(active, <<"m">>),
    _ = session(params(990, 9, 1, 999, [[30, 990], [400, 9], [2000000, 1]])),
    iolist_to_binary(?M:prometheus()).

text(Config) ->
    Text = everything_at_once(Config),
    Lines = binary:split(Text, <<"\n">>, [global, trim]),
    Types = [Line || <<"# TYPE ", Line/binary>> <- Lines],
    ?assertEqual([<<Name/binary, $\s, (atom_to_binary(Type))/binary>> || {Name, Type} <- ?M:families()], Types),
    Prefix = "erlmcp_claude_flow_",
    [
        ?assert(lists:member(list_to_binary([Prefix, Line]), Lines), Line)
     || Line <- [
            "cache_hit_rate{cache=\"l1\"} 0.99",
            "cache_hit_rate{cache=\"l2\"} 0.009",
            "cache_miss_rate 0.001",
            "latency_seconds{quantile=\"0.5\"} 3.0e-8",
            "latency_seconds{quantile=\"0.99\"} 3.0e-8",
            "latency_seconds_sum 0.0020333",
            "latency_seconds_count 1000",
            "sona_compliance_ratio 0.999",
            "failover_total 1",
            "failover_success_ratio 1.0",
            "transport_health{transport=\"websocket\"} 1",
            "transport_health{transport=\"stdio\"} 1",
            "circuit_breaker_state{transport=\"stdio\"} 0",
            "active_connections 1",
            "shm_up 1",
            "shm_size_bytes 1048576",
            "shm_entries 1",
            "shm_puts_total 1",
            "shm_deletes_total 0"
        ]
    ].

%% What prometheus.erl shows is what our text says.
registry(Config) ->
    {ok, _} = application:ensure_all_started(prometheus),
    Text = everything_at_once(Config),
    Ours = fun(Shown) ->
        Lines = binary:split(iolist_to_binary(Shown), <<"\n">>, [global]),
        Parsed = [re:split(Line, "[ {}]", [trim]) || <<"erlmcp_claude_flow_", _/binary>> = Line <- Lines],
        %% Written the same way, and the one that moves left out.
        lists:sort([
            {Name, Labels, value(lists:last(Parts))}
         || [Name | Parts] <- Parsed, Labels <- [lists:droplast(Parts)], Name =/= <<"erlmcp_claude_flow_shm_heartbeat_age_seconds">>
        ])
    end,
    ?assertEqual(Ours(Text), Ours(prometheus_text_format:format())),
    ?assertEqual(24, length(Ours(Text))),
    ok = gen_server:stop(?F),
    ?assertEqual([], Ours(prometheus_text_format:format())).

value(Text) ->
    case string:to_float(Text) of
        {error, no_float} -> float(binary_to_integer(Text));
        {Value, _} -> Value
    end.

promtool(Config) ->
    case os:find_executable("promtool") of
        false ->
            {skip, "SKIPPED: no promtool on the PATH"};
        Promtool ->
            File = erlmcp_shm_test:path(Config) ++ ".prom",
            ok = file:write_file(File, everything_at_once(Config)),
            Shell = os:find_executable("sh"),
            ?assertEqual({0, <<>>}, erlmcp_shm_test:run(Shell, ["-c", "\"$0\" check metrics < \"$1\" 2>&1", Promtool, File]))
    end.
