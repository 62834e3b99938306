%% @doc How well a transport is, from what was measured of it: state, score, and which of several should be
%% used. Functions of their arguments only; who probes, and when, is the gateway's business.
-module(erlmcp_shm_health).

-export([new/0, probed/2, lives/1, worked/3, status/3, score/2, score/4, order/1, choose/2, latency/1, throughput/1]).

-export_type([health/0, status/0, candidate/0]).

-type status() :: healthy | degraded | unhealthy.

-record(health, {
    %% Consecutive probes: that failed, and that were answered in time.
    failed = 0 :: non_neg_integer(),
    good = 0 :: non_neg_integer(),
    slow = false :: boolean(),
    latency_ms :: float() | undefined,
    throughput :: float() | undefined
}).

-opaque health() :: #health{}.

-type candidate() :: #{
    status := status(), score := float(), priority := 0..10, good := non_neg_integer(), atom() => term()
}.

%% A probe that takes longer is answered, but not well.
-define(SLOW_MS, 100).
-define(FAILED_IS_UNHEALTHY, 3).
%% What a new measurement counts for beside all that came before.
-define(WEIGHT, 0.2).
-define(FULL_THROUGHPUT, 10000).
%% When another transport takes over from one that still works.
-define(GOOD_CHECKS, 2).
-define(BETTER_BY, 0.05).
%% Sums of decimal fractions are compared, not of what floats make of them.
-define(EPSILON, 1.0e-9).

-spec new() -> health().
new() ->
    #health{}.

%% @doc A health check was answered after so many milliseconds, or it failed.
-spec probed({ok, LatencyMs :: number()} | {error, term()}, health()) -> health().
probed({ok, Ms}, #health{latency_ms = Latency, good = Good} = Health) ->
    Slow = Ms > ?SLOW_MS,
    NowGood =
        case Slow of
            true -> 0;
            false -> Good + 1
        end,
    Health#health{failed = 0, good = NowGood, slow = Slow, latency_ms = average(Ms, Latency)};
probed({error, _}, #health{failed = Failed} = Health) ->
    Health#health{failed = Failed + 1, good = 0}.

%% @doc A check of one that is not probed: its process is there, and that is all there is to know.
-spec lives(health()) -> health().
lives(#health{good = Good} = Health) ->
    Health#health{good = Good + 1}.

%% @doc So many messages were taken while it was busy for so many nanoseconds. One that was not busy has shown
%% nothing, whatever was or was not offered to it.
-spec worked(Messages :: non_neg_integer(), BusyNs :: integer(), health()) -> health().
worked(Messages, BusyNs, #health{throughput = Throughput} = Health) when Messages > 0, BusyNs > 0 ->
    Health#health{throughput = average(Messages * 1.0e9 / BusyNs, Throughput)};
worked(_Messages, _BusyNs, Health) ->
    Health.

average(New, undefined) -> float(New);
average(New, Old) -> Old + ?WEIGHT * (New - Old).

%% @doc `Alive' is whether its process is there. One of which nothing is known yet is trusted.
-spec status(Alive :: boolean(), erlmcp_shm_breaker:state(), health()) -> status().
status(false, _Breaker, _Health) -> unhealthy;
status(true, open, _Health) -> unhealthy;
status(true, _Breaker, #health{failed = Failed}) when Failed >= ?FAILED_IS_UNHEALTHY -> unhealthy;
status(true, half_open, _Health) -> degraded;
status(true, closed, #health{failed = Failed, slow = Slow}) when Failed > 0; Slow -> degraded;
status(true, closed, _Health) -> healthy.

-spec latency(health()) -> float() | undefined.
latency(#health{latency_ms = Latency}) ->
    Latency.

-spec throughput(health()) -> float() | undefined.
throughput(#health{throughput = Throughput}) ->
    Throughput.

%% @doc What decides between transports, as a candidate of `order/1' and `choose/2'.
-spec score({status(), Priority :: 0..10}, health()) -> candidate().
score({Status, Priority}, #health{latency_ms = Latency, throughput = Throughput, good = Good}) ->
    Score = score(Status, Latency, Throughput, Priority),
    #{status => Status, score => Score, priority => Priority, good => Good}.

%% @doc From 0 to 1.
-spec score(status(), LatencyMs :: number() | undefined, PerSecond :: number() | undefined, 0..10) ->
    float().
score(Status, LatencyMs, PerSecond, Priority) ->
    0.4 * status_part(Status) + 0.3 * latency_part(LatencyMs) + 0.2 * throughput_part(PerSecond) +
        0.1 * Priority / 10.

status_part(healthy) -> 1.0;
status_part(degraded) -> 0.5;
status_part(unhealthy) -> 0.0.

latency_part(undefined) -> 0.5;
latency_part(Ms) -> max(0.0, 1 - Ms / 100).

throughput_part(undefined) -> 0.5;
throughput_part(PerSecond) -> min(1.0, PerSecond / ?FULL_THROUGHPUT).

%% @doc The best first. An unhealthy one comes after all that are not, and of equals the earlier stays so.
-spec order([Candidate]) -> [Candidate] when Candidate :: candidate().
order(Candidates) ->
    lists:sort(fun not_after/2, Candidates).

not_after(#{status := unhealthy}, #{status := Other}) when Other =/= unhealthy -> false;
not_after(#{status := Other}, #{status := unhealthy}) when Other =/= unhealthy -> true;
not_after(#{score := A}, #{score := B}) -> A > B - ?EPSILON.

%% @doc Which to use, if `Active' is in use. One that works is left only for one that is better by a margin
%% and was found well more than once: else two of a kind would take turns for ever.
-spec choose(Active :: Candidate | none, [Candidate]) -> Candidate | none when
    Candidate :: candidate().
choose(_Active, []) ->
    none;
choose(Active, Candidates) ->
    [Best | _] = Ordered = order(Candidates),
    case Active of
        none -> Best;
        #{status := unhealthy} when map_get(status, Best) =/= unhealthy -> Best;
        #{status := unhealthy} -> Active;
        #{score := Score} -> first([C || C <- Ordered, proven_better(C, Score)], Active)
    end.

proven_better(#{status := Status, good := Good, score := Score}, ActiveScore) ->
    Status =/= unhealthy andalso Good >= ?GOOD_CHECKS andalso
        Score >= ActiveScore + ?BETTER_BY - ?EPSILON.

first([First | _], _Default) -> First;
first([], Default) -> Default.
