%% Health, scores and the choice between transports: the specified values, then what must hold for any.
-module(erlmcp_shm_health_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(proper_types, [float/2, integer/2, list/1, oneof/1]).

-define(H, erlmcp_shm_health).

all() ->
    [
        specified_scores,
        specified_states,
        averages,
        busy_only,
        equal_scores,
        failover,
        failback,
        scores_are_shares,
        better_scores_higher,
        order_is_total,
        choice_is_stable
    ].

near(Expected, Actual) ->
    ?assert(abs(Expected - Actual) < 1.0e-9, {Expected, Actual}).

specified_scores(_Config) ->
    [near(Score, ?H:score(healthy, undefined, undefined, P)) || {P, Score} <- [{10, 0.75}, {8, 0.73}, {6, 0.71}, {5, 0.70}]],
    near(0.64, ?H:score(degraded, 20, 5000, 10)),
    near(0.25, ?H:score(unhealthy, 150, 20000, 5)).

probes(Results) ->
    lists:foldl(fun ?H:probed/2, ?H:new(), Results).

specified_states(_Config) ->
    Cases = [
        {healthy, true, closed, []},
        {healthy, true, closed, [{ok, 100.0}]},
        {degraded, true, closed, [{ok, 100.1}]},
        {degraded, true, closed, [{error, e}]},
        {degraded, true, closed, [{error, e}, {error, e}]},
        {unhealthy, true, closed, [{error, e}, {error, e}, {error, e}]},
        {healthy, true, closed, [{error, e}, {error, e}, {error, e}, {ok, 1.0}]},
        {degraded, true, half_open, [{ok, 1.0}]},
        {unhealthy, true, half_open, [{error, e}, {error, e}, {error, e}]},
        {unhealthy, true, open, [{ok, 1.0}]},
        {unhealthy, false, closed, [{ok, 1.0}]}
    ],
    [?assertEqual(Case, setelement(1, Case, ?H:status(Alive, Breaker, probes(Results)))) || {_, Alive, Breaker, Results} = Case <- Cases].

averages(_Config) ->
    ?assertEqual(undefined, ?H:latency(?H:new())),
    near(10.0, ?H:latency(probes([{ok, 10.0}]))),
    near(12.0, ?H:latency(probes([{ok, 10.0}, {error, e}, {ok, 20.0}]))),
    near(1000.0, ?H:throughput(?H:worked(1, 1000000, ?H:new()))),
    near(1200.0, ?H:throughput(?H:worked(2, 1000000, ?H:worked(1, 1000000, ?H:new())))).

busy_only(_Config) ->
    ?assertEqual(undefined, ?H:throughput(?H:worked(0, 1000000, ?H:new()))),
    ?assertEqual(undefined, ?H:throughput(?H:worked(0, 0, ?H:new()))),
    Busy = ?H:worked(5, 1000000, ?H:new()),
    ?assertEqual(Busy, ?H:worked(0, 0, Busy)).

candidate(Id, Status, Score, Good) ->
    #{id => Id, status => Status, score => Score, priority => 5, good => Good}.

ids(Candidates) ->
    [Id || #{id := Id} <- Candidates].

equal_scores(_Config) ->
    Three = [candidate(Id, healthy, 0.1 + 0.2, 0) || Id <- [c, a, b]],
    ?assertEqual([c, a, b], ids(?H:order(Three))),
    %% Equal but for what floats make of them.
    Two = [candidate(x, healthy, 0.3, 0), candidate(y, healthy, 0.1 + 0.2, 0)],
    ?assertEqual([x, y], ids(?H:order(Two))),
    %% Unhealthy is last, however well it scores.
    ?assertEqual([b, a], ids(?H:order([candidate(a, unhealthy, 0.6, 9), candidate(b, degraded, 0.2, 0)]))).

chosen(Active, Candidates) ->
    case ?H:choose(Active, Candidates) of
        none -> none;
        #{id := Id} -> Id
    end.

failover(_Config) ->
    Down = candidate(a, unhealthy, 0.35, 0),
    ?assertEqual(b, chosen(Down, [Down, candidate(b, degraded, 0.2, 0), candidate(c, unhealthy, 0.6, 0)])),
    %% There is nothing better: no reason to move.
    ?assertEqual(a, chosen(Down, [candidate(c, unhealthy, 0.6, 0), Down])),
    ?assertEqual(none, chosen(none, [])),
    ?assertEqual(c, chosen(none, [candidate(c, unhealthy, 0.6, 0)])).

failback(_Config) ->
    Active = candidate(stdio, healthy, 0.71, 0),
    Back = fun(Score, Good) -> chosen(Active, [candidate(ws, healthy, Score, Good), Active]) end,
    ?assertEqual(stdio, Back(0.9, 1)),
    ?assertEqual(ws, Back(0.9, 2)),
    ?assertEqual(stdio, Back(0.759, 2)),
    ?assertEqual(ws, Back(0.76, 2)),
    ?assertEqual(stdio, chosen(Active, [candidate(ws, unhealthy, 0.9, 2), Active])).

%%% For any values

holds(Property) ->
    ?assert(proper:quickcheck(Property, [{numtests, 500}, {to_file, user}])).

status() -> oneof([healthy, degraded, unhealthy]).
latency() -> oneof([undefined, float(0.0, 1.0e4)]).
rate() -> oneof([undefined, float(0.0, 1.0e6)]).

scores_are_shares(_Config) ->
    holds(
        proper:forall({status(), latency(), rate(), integer(0, 10)}, fun({S, L, T, P}) ->
            Score = ?H:score(S, L, T, P),
            Score >= 0.0 andalso Score =< 1.0 + 1.0e-9
        end)
    ).

%% Better in anything and worse in nothing never scores lower.
better_scores_higher(_Config) ->
    Pair = fun(Min, Max) -> {float(Min, Max), float(Min, Max)} end,
    holds(
        proper:forall({status(), Pair(0.0, 200.0), Pair(0.0, 2.0e4), {integer(0, 10), integer(0, 10)}}, fun(
            {S, {L1, L2}, {T1, T2}, {P1, P2}}
        ) ->
            ?H:score(S, min(L1, L2), max(T1, T2), max(P1, P2)) >= ?H:score(S, max(L1, L2), min(T1, T2), min(P1, P2))
        end)
    ).

candidates() ->
    list({status(), integer(0, 20), integer(0, 3)}).

named(List) ->
    [candidate(Id, S, N / 20, Good) || {Id, {S, N, Good}} <- lists:zip(lists:seq(1, length(List)), List)].

order_is_total(_Config) ->
    holds(
        proper:forall(candidates(), fun(List) ->
            Candidates = named(List),
            Key = fun(#{id := Id, status := S, score := Score}) -> {S =:= unhealthy, -Score, Id} end,
            ids(?H:order(Candidates)) =:= ids(lists:sort(fun(A, B) -> Key(A) =< Key(B) end, Candidates))
        end)
    ).

%% Nothing changed, so nothing changes: whoever was chosen is chosen again.
choice_is_stable(_Config) ->
    holds(
        proper:forall(candidates(), fun(List) ->
            Candidates = named(List),
            First = ?H:choose(none, Candidates),
            Next = ?H:choose(First, Candidates),
            First =:= Next andalso
                lists:all(fun(Active) -> settles(Active, Candidates) end, Candidates)
        end)
    ).

settles(Active, Candidates) ->
    Chosen = ?H:choose(Active, Candidates),
    Chosen =:= ?H:choose(Chosen, Candidates).
