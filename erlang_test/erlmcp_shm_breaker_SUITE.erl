%% The circuit breaker against a model, and with many callers at once.
-module(erlmcp_shm_breaker_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(proper_types, [frequency/1, list/1, oneof/1, resize/2, sized/1]).

-define(B, erlmcp_shm_breaker).
-define(HISTORIES, 100).
-define(TIMEOUT, 25).

all() ->
    [
        breaker_is_its_model,
        spec_defaults,
        costs_no_message,
        one_probe_at_a_time,
        probe_of_a_dead_process,
        opens_once,
        success_in_between,
        forced,
        gone
    ].

start(Options) ->
    Defaults = #{failure_threshold => 5, success_threshold => 2, timeout_ms => 60000, notify => self()},
    {ok, Pid} = ?B:start_link(maps:merge(Defaults, Options)),
    ?B:handle(Pid).

times(N, Fun) ->
    [Fun() || _ <- lists:seq(1, N)].

open(Breaker, N) ->
    times(N, fun() -> ?B:record_failure(Breaker) end),
    ?assertEqual(open, ?B:state(Breaker)).

%%% The model

breaker_is_its_model(_Config) ->
    Steps = frequency([
        {6, failure}, {4, success}, {5, available}, {2, release}, {2, wait}, {1, reset}, {1, force_open}, {1, force_close}
    ]),
    Histories = sized(fun(Size) -> resize(2 * Size, list(Steps)) end),
    Seen = ets:new(seen, [public]),
    Property = proper:forall({oneof([1, 2, 5]), oneof([1, 2, 3]), Histories}, fun({Failures, Successes, History}) ->
        Breaker = start(#{failure_threshold => Failures, success_threshold => Successes, timeout_ms => ?TIMEOUT}),
        Model = #{state => closed, failures => 0, successes => 0, max => {Failures, Successes}},
        try
            _ = lists:foldl(fun(Step, M) -> step(Step, Breaker, M, Seen) end, Model, History),
            true
        after
            ?B:stop(Breaker)
        end
    end),
    ?assert(proper:quickcheck(Property, [{numtests, ?HISTORIES}, {max_size, 60}, {to_file, user}])),
    %% It has been everywhere.
    ?assertEqual([closed, half_open, open], lists:sort([State || {State} <- ets:tab2list(Seen)])).

%% Time passes between two steps, and how much nobody knows: an open breaker may have become half-open, but
%% not before its time; and a probe may have been given up for dead, likewise.
step(Step, Breaker, Model0, Seen) ->
    Model = time_passed(Breaker, Model0),
    Before = now_ms(),
    Next = model(Step, do(Step, Breaker), Model, Before),
    State = ?B:state(Breaker),
    true = ets:insert(Seen, {State}),
    case {Next, State} of
        {#{state := State}, _} -> Next;
        {#{state := open, forced := false}, half_open} -> Next
    end.

time_passed(Breaker, #{state := open, forced := false, since := Since} = Model) ->
    case ?B:state(Breaker) of
        half_open ->
            ?assert(now_ms() - Since >= ?TIMEOUT - 1),
            half_open(Model);
        open ->
            Model
    end;
time_passed(_Breaker, Model) ->
    Model.

do(failure, B) -> ?B:record_failure(B);
do(success, B) -> ?B:record_success(B);
do(available, B) -> ?B:is_available(B);
do(release, B) -> ?B:release(B);
do(reset, B) -> ?B:reset(B);
do(force_open, B) -> ?B:force_open(B);
do(force_close, B) -> ?B:force_close(B);
do(wait, B) -> timer:sleep(2 * ?TIMEOUT), ?B:state(B).

model(available, true, #{state := closed} = M, _) ->
    M;
model(available, false, #{state := open} = M, _) ->
    M;
%% It became half-open under our hands.
model(available, true, #{state := open, forced := false, since := Since} = M, _) ->
    ?assert(now_ms() - Since >= ?TIMEOUT - 1),
    (half_open(M))#{probe := now_ms()};
model(available, true, #{state := half_open, probe := none} = M, Before) ->
    M#{probe := Before};
model(available, true, #{state := half_open, probe := Since} = M, Before) ->
    ?assert(now_ms() - Since >= ?TIMEOUT - 1),
    M#{probe := Before};
model(available, false, #{state := half_open, probe := Since} = M, _) when Since =/= none ->
    M;
model(wait, half_open, #{state := open, forced := false} = M, _) ->
    half_open(M);
model(wait, State, #{state := State} = M, _) when State =/= open; map_get(forced, M) ->
    M;
model(release, ok, #{state := half_open} = M, _) ->
    M#{probe := none};
model(failure, ok, #{state := closed, failures := N, max := {Max, _}} = M, Before) when N + 1 >= Max ->
    open(M, false, Before);
model(failure, ok, #{state := closed, failures := N} = M, _) ->
    M#{failures := N + 1};
model(failure, ok, #{state := half_open} = M, Before) ->
    open(M, false, Before);
model(success, ok, #{state := closed} = M, _) ->
    M#{failures := 0};
model(success, ok, #{state := half_open, successes := N, max := {_, Max}} = M, _) when N + 1 >= Max ->
    M#{state := closed, failures := 0};
model(success, ok, #{state := half_open, successes := N} = M, _) ->
    M#{successes := N + 1, probe := none};
model(force_open, ok, M, Before) ->
    open(M, true, Before);
model(Close, ok, M, _) when Close =:= reset; Close =:= force_close ->
    M#{state := closed, failures := 0};
model(_, ok, M, _) ->
    M.

open(M, Forced, Since) -> M#{state := open, forced => Forced, since => Since, failures := 0}.
half_open(M) -> M#{state := half_open, successes := 0, probe => none}.
now_ms() -> erlang:monotonic_time(millisecond).

%%% Cases

spec_defaults(_Config) ->
    B = start(#{timeout_ms => 50}),
    times(4, fun() -> ?B:record_failure(B) end),
    ?assertEqual(closed, ?B:state(B)),
    ?B:record_failure(B),
    ?assertNot(?B:is_available(B)),
    erlmcp_shm_test:eventually(fun() -> ?B:state(B) =:= half_open end),
    ?assert(?B:is_available(B)),
    ?B:record_success(B),
    ?assertEqual(half_open, ?B:state(B)),
    ?assert(?B:is_available(B)),
    ?B:record_success(B),
    ?assertEqual(closed, ?B:state(B)),
    ?assertEqual([open, half_open, closed], notified()).

notified() ->
    receive
        {breaker, _, State} -> [State | notified()]
    after 100 -> []
    end.

%% Its process is stopped, and nobody notices, short of a change of state.
costs_no_message(_Config) ->
    {ok, Pid} = ?B:start_link(#{failure_threshold => 5, success_threshold => 2, timeout_ms => 60000}),
    B = ?B:handle(Pid),
    ok = sys:suspend(Pid),
    times(1000, fun() ->
        true = ?B:is_available(B),
        times(4, fun() -> ok = ?B:record_failure(B) end),
        ok = ?B:record_success(B),
        ok = ?B:release(B),
        closed = ?B:state(B)
    end),
    ok = sys:resume(Pid),
    open(B, 5),
    ok = sys:suspend(Pid),
    times(1000, fun() ->
        false = ?B:is_available(B),
        ok = ?B:record_failure(B),
        ok = ?B:record_success(B)
    end),
    ?assertEqual({message_queue_len, 0}, process_info(Pid, message_queue_len)),
    ok = sys:resume(Pid).

one_probe_at_a_time(_Config) ->
    B = start(#{failure_threshold => 1, timeout_ms => 1000}),
    open(B, 1),
    erlmcp_shm_test:eventually(fun() -> ?B:state(B) =:= half_open end),
    ?assertEqual(1, length([yes || true <- at_once(200, fun() -> ?B:is_available(B) end)])),
    ?B:release(B),
    ?assertEqual(1, length([yes || true <- at_once(200, fun() -> ?B:is_available(B) end)])).

%% Nobody reports, so the next one may try once it has been as long as the breaker stays open.
probe_of_a_dead_process(_Config) ->
    B = start(#{failure_threshold => 1, timeout_ms => 200}),
    open(B, 1),
    erlmcp_shm_test:eventually(fun() -> ?B:state(B) =:= half_open end),
    ?assertEqual([true], at_once(1, fun() -> ?B:is_available(B) end)),
    erlmcp_shm_test:eventually(fun() -> ?B:is_available(B) end),
    ?assertEqual(half_open, ?B:state(B)).

opens_once(_Config) ->
    B = start(#{failure_threshold => 50}),
    _ = at_once(200, fun() -> ?B:record_failure(B) end),
    ?assertEqual(open, ?B:state(B)),
    ?assertEqual([open], notified()).

success_in_between(_Config) ->
    B = start(#{}),
    times(100, fun() ->
        times(4, fun() -> ?B:record_failure(B) end),
        ?B:record_success(B)
    end),
    ?assertEqual(closed, ?B:state(B)),
    open(B, 5).

forced(_Config) ->
    B = start(#{timeout_ms => 20}),
    ?B:force_open(B),
    timer:sleep(100),
    ?assertEqual(open, ?B:state(B)),
    ?B:force_close(B),
    ?assert(?B:is_available(B)),
    %% What opened it by itself, and is then forced, stays open as well.
    open(B, 5),
    ?B:force_open(B),
    timer:sleep(100),
    ?assertEqual(open, ?B:state(B)),
    ?B:reset(B),
    open(B, 5),
    erlmcp_shm_test:eventually(fun() -> ?B:state(B) =:= half_open end).

gone(_Config) ->
    B = start(#{failure_threshold => 1}),
    ?B:stop(B),
    ?assert(?B:is_available(B)),
    ?assertEqual([ok, ok, ok], times(3, fun() -> ?B:record_failure(B) end)).

at_once(N, Fun) ->
    Self = self(),
    Go = make_ref(),
    Pids = [
        spawn_link(fun() ->
            receive
                Go -> Self ! {self(), Fun()}
            end
        end)
     || _ <- lists:seq(1, N)
    ],
    [Pid ! Go || Pid <- Pids],
    [
        receive
            {Pid, Result} -> Result
        end
     || Pid <- Pids
    ].
