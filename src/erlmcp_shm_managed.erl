%% @private
%% One transport as the gateway keeps it: its process, which comes and goes, and what was found out about it.
%% Called by the gateway's process only, save `forget/1', `info/2' and `peers/1'.
-module(erlmcp_shm_managed).

-include_lib("kernel/include/logger.hrl").

-export([new/2, start/2, down/2, breaker_ended/2, forget/1, check/1, checked/3]).
-export([find/2, same/2, insert/2, candidate/1, route/1, info/2, peers/1]).

-export_type([managed/0, id/0]).

-opaque id() :: reference().

-type managed() :: #{
    id := id(),
    type := erlmcp_shm_transport:type(),
    module := module(),
    config := map(),
    priority := 0..10,
    health_check := boolean(),
    pid := pid() | none,
    %% What this node lacks to start it: no other attempt would go better.
    lacks := none | erlmcp_shm_transport:lacking(),
    former := [pid()],
    %% When it started, and how often it had to be started again.
    since := integer(),
    restarts := non_neg_integer(),
    pause := non_neg_integer(),
    timer := none | reference(),
    breaker := none | erlmcp_shm_breaker:breaker(),
    breaker_pid := none | pid(),
    breaker_options := erlmcp_shm_config:breaker(),
    busy := erlmcp_shm_busy:busy(),
    %% What of it the health has seen.
    busy_seen := {non_neg_integer(), non_neg_integer()},
    health := erlmcp_shm_health:health(),
    probe := none | pid()
}.

%% Pauses before a transport is started again: at once, then growing. One that has run for long starts anew.
-define(FIRST_PAUSE_MS, 50).
-define(LONGEST_PAUSE_MS, 1000).
-define(LONG_MS, 5000).

-define(PROBE_MS, 5000).
%% So many of its former processes go on naming a transport.
-define(FORMER, 16).

%% @doc Not started yet.
-spec new(erlmcp_shm_config:transport(), erlmcp_shm_config:config()) -> managed().
new(Transport, #{circuit_breaker := Breaker}) ->
    Transport#{
        id => make_ref(),
        pid => none,
        lacks => none,
        former => [],
        since => 0,
        restarts => 0,
        pause => 0,
        timer => none,
        breaker => none,
        breaker_pid => none,
        breaker_options => Breaker,
        busy => erlmcp_shm_busy:new(),
        busy_seen => {0, 0},
        health => erlmcp_shm_health:new(),
        probe => none
    }.

%% Each process has one of its own: what was reported late of one that is gone says nothing about the next.
with_breaker(#{breaker_options := #{enabled := false}} = Managed) ->
    Managed;
with_breaker(#{breaker_options := Options} = Managed) ->
    {ok, Pid} = erlmcp_shm_breaker:start_link(Options#{notify => self()}),
    Managed#{breaker := erlmcp_shm_breaker:handle(Pid), breaker_pid := Pid}.

%%% Its process

%% @doc Starts it unless it runs; if it cannot start, it is tried again later. Where the node lacks what it takes, that is
%% said once, and it is tried when it is asked for.
-spec start(Supervisor :: pid(), managed()) -> managed().
start(_Supervisor, #{pid := Pid} = Managed) when is_pid(Pid) ->
    Managed;
start(Supervisor, #{id := Id, module := Module, config := Config, type := Type} = Managed) ->
    case erlmcp_shm_transport_sup:start(Supervisor, Id, Module, Config) of
        {ok, Pid} ->
            _ = monitor(process, Pid),
            erlmcp_shm_telemetry:execute([transport, up], #{count => 1}, #{type => Type}),
            with_breaker(Managed#{pid := Pid, since := now_ms(), lacks := none});
        {error, {missing_application, _} = Lacking} ->
            lacks(Lacking, Managed);
        {error, Reason} ->
            ?LOG_WARNING(#{what => transport, type => Type, trouble => {not_started, Reason}}),
            again(Managed)
    end.

lacks(Lacking, #{lacks := Lacking} = Managed) ->
    Managed;
lacks({missing_application, Application} = Lacking, #{type := Type} = Managed) ->
    ?LOG_ERROR(#{
        what => transport,
        type => Type,
        unavailable => Lacking,
        advice => lists:concat([
            "add ", Application, " and what it depends on to the release (cowboy, cowlib and ranch for the network transports), or"
            " take this transport out of the configuration"
        ])
    }),
    Managed#{lacks := Lacking}.

%% @doc Its process ended: `gone' if for good.
-spec down(term(), managed()) -> managed() | gone.
down(Reason, #{pid := Pid, type := Type, probe := Probe} = Managed) ->
    #{former := Former, restarts := Restarts, since := Since} = Managed,
    erlmcp_shm_telemetry:execute([transport, down], #{count => 1}, #{type => Type, reason => Reason}),
    case for_good(Reason) of
        true ->
            ?LOG_NOTICE(#{what => transport, type => Type, ended => Reason}),
            ok = forget(Managed),
            gone;
        false ->
            ?LOG_WARNING(#{what => transport, type => Type, trouble => {crashed, Reason}}),
            Pause =
                case now_ms() - Since > ?LONG_MS of
                    true -> 0;
                    false -> maps:get(pause, Managed)
                end,
            ok = forget(Managed),
            %% A probe that is under way would speak of the former process.
            _ = [exit(Probe, kill) || is_pid(Probe)],
            again(Managed#{
                pid := none,
                probe := none,
                breaker := none,
                breaker_pid := none,
                former := lists:sublist([Pid | Former], ?FORMER),
                restarts := Restarts + 1,
                pause := Pause,
                %% The next is another process, of which nothing is known yet.
                health := erlmcp_shm_health:new()
            })
    end.

for_good(normal) -> true;
for_good(shutdown) -> true;
for_good({shutdown, _}) -> true;
for_good(_) -> false.

again(#{id := Id, pause := Pause, timer := Before} = Managed) ->
    _ = [erlang:cancel_timer(Before) || is_reference(Before)],
    Timer = erlang:send_after(Pause, self(), {restart, Id}),
    Managed#{timer := Timer, pause := min(max(?FIRST_PAUSE_MS, 2 * Pause), ?LONGEST_PAUSE_MS)}.

-spec breaker_ended(pid(), managed()) -> managed().
breaker_ended(Pid, #{breaker_pid := Pid} = Managed) ->
    with_breaker(Managed);
breaker_ended(_Pid, Managed) ->
    Managed.

%% @doc From any process; the breaker is linked to the gateway, which its normal end does not disturb.
-spec forget(managed()) -> ok.
forget(#{breaker := none}) -> ok;
forget(#{breaker := Breaker}) -> erlmcp_shm_breaker:stop(Breaker).

%%% Its health

%% @doc Time for a check. A probe that is still under way from the last time has failed.
-spec check(managed()) -> managed().
check(#{pid := none} = Managed) ->
    Managed;
check(#{health_check := false, health := Health} = Managed) ->
    worked(tried(ok, Managed#{health := erlmcp_shm_health:lives(Health)}));
check(#{probe := none, id := Id, pid := Pid, module := Module} = Managed) ->
    Gateway = self(),
    Probe = spawn(fun() ->
        Result =
            case erlmcp_shm_deadline:run(fun() -> Module:probe(Pid, ?PROBE_MS) end, ?PROBE_MS) of
                {ok, {ok, Ms}} when is_number(Ms), Ms >= 0 -> {ok, Ms};
                {ok, {error, _} = Error} -> Error;
                {ok, Other} -> {error, {bad_answer, Other}};
                {error, _} = Error -> Error
            end,
        Gateway ! {checked, Id, self(), Result}
    end),
    worked(Managed#{probe := Probe});
check(#{probe := Probe} = Managed) ->
    exit(Probe, kill),
    checked(Probe, {error, timeout}, Managed).

-spec checked(pid(), {ok, number()} | {error, term()}, managed()) -> managed().
checked(Probe, Result, #{probe := Probe, health := Health, type := Type} = Managed) ->
    Measured =
        case Result of
            {ok, Ms} -> #{latency_ms => Ms};
            {error, _} -> #{}
        end,
    erlmcp_shm_telemetry:execute([health_check], Measured, #{type => Type, result => Result}),
    tried(element(1, Result), Managed#{probe := none, health := erlmcp_shm_health:probed(Result, Health)});
checked(_FormerProbe, _Result, Managed) ->
    Managed.

%% Nothing might ever be sent through a transport whose breaker is half-open, since the others are better. So
%% a check serves as its trial.
tried(_Result, #{breaker := none} = Managed) ->
    Managed;
tried(Result, #{breaker := Breaker} = Managed) ->
    ok =
        case {erlmcp_shm_breaker:state(Breaker), Result} of
            {half_open, ok} -> trial(fun erlmcp_shm_breaker:record_success/1, Breaker);
            {half_open, error} -> trial(fun erlmcp_shm_breaker:record_failure/1, Breaker);
            _ -> ok
        end,
    Managed.

trial(Record, Breaker) ->
    case erlmcp_shm_breaker:is_available(Breaker) of
        true -> Record(Breaker);
        false -> ok
    end.

worked(#{busy := Busy, busy_seen := {Taken0, Ns0}, health := Health} = Managed) ->
    {Taken, Ns} = erlmcp_shm_busy:read(Busy),
    Managed#{
        busy_seen := {Taken, Ns},
        health := erlmcp_shm_health:worked(Taken - Taken0, Ns - Ns0, Health)
    }.

%%% Among others

-spec find(term(), [managed()]) -> {ok, managed()} | error.
find(Pid, Transports) ->
    first([M || #{pid := Current, former := Former} = M <- Transports, is_pid(Pid), lists:member(Pid, [Current | Former])]).

%% @doc The one that does what this configuration says.
-spec same(erlmcp_shm_config:transport(), [managed()]) -> {ok, managed()} | error.
same(#{type := Type, module := Module, config := Config}, Transports) ->
    first([M || #{type := T, module := Mod, config := C} = M <- Transports, T =:= Type, Mod =:= Module, C =:= Config]).

first([]) -> error;
first([First | _]) -> {ok, First}.

%% @doc By priority, and behind those of the same.
-spec insert(managed(), [managed()]) -> [managed()].
insert(#{priority := Priority} = Managed, Transports) ->
    {Before, After} = lists:splitwith(fun(#{priority := P}) -> P >= Priority end, Transports),
    Before ++ [Managed | After].

%% @doc For erlmcp_shm_health, with what is needed to find it again.
-spec candidate(managed()) -> erlmcp_shm_health:candidate().
candidate(#{id := Id, priority := Priority, health := Health} = Managed) ->
    (erlmcp_shm_health:score({status(Managed), Priority}, Health))#{id => Id, managed => Managed}.

status(#{pid := Pid, health := Health} = Managed) ->
    erlmcp_shm_health:status(is_pid(Pid), breaker_state(Managed), Health).

breaker_state(#{breaker := none}) -> closed;
breaker_state(#{breaker := Breaker}) -> erlmcp_shm_breaker:state(Breaker).

%% @doc What is published of it.
-spec route(managed()) -> erlmcp_shm_route:route().
route(#{health := Health, priority := Priority} = Managed) ->
    Status = status(Managed),
    #{score := Score} = erlmcp_shm_health:score({Status, Priority}, Health),
    (maps:with([pid, lacks, former, module, type, breaker, busy, restarts], Managed))#{
        status => Status,
        score => Score,
        latency_ms => erlmcp_shm_health:latency(Health),
        throughput => erlmcp_shm_health:throughput(Health)
    }.

%% @doc Of a route; the transport's process adds what it knows itself, such as who is connected.
-spec info(erlmcp_shm_route:route(), active | standby) -> erlmcp_claude_flow:info().
info(#{status := Status} = Route, Place) ->
    State =
        case Route of
            #{pid := none, lacks := none} -> down;
            #{pid := none} -> unavailable;
            _ -> Place
        end,
    Judged = maps:with([type, score, latency_ms, throughput, restarts], Route),
    maps:merge(own_info(Route), Judged#{state => State, health => Status, breaker => breaker_state(Route)}).

%% @doc How many are connected, as its process says.
-spec peers(erlmcp_shm_route:route()) -> non_neg_integer().
peers(Route) ->
    maps:get(peers, own_info(Route)).

own_info(#{pid := none}) ->
    #{peers => 0};
own_info(#{pid := Pid, module := Module}) ->
    try
        Module:get_info(Pid)
    catch
        exit:_ -> #{peers => 0}
    end.

now_ms() ->
    erlang:monotonic_time(millisecond).
