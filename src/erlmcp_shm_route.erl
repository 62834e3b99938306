%% @private
%% How a message finds its transport. The gateway publishes the transports there are, the one to use first, and a
%% message is sent in the process of whoever sends it: no process is on the way but the transport's own.
%%
%% A message goes to one transport at most. The next is tried only where it is sure that the one before did not
%% take it; a transport that ended with the message in hand leaves `{unconfirmed, Reason}' to its caller.
-module(erlmcp_shm_route).

-export([new/0, publish/3, all/0, find/1, send/2, failovers/0]).

-export_type([route/0, error/0]).

%% `former': the processes that ran this transport before. They go on naming it.
-type route() :: #{
    pid := pid() | none,
    lacks := none | erlmcp_shm_transport:lacking(),
    former := [pid()],
    module := module(),
    type := erlmcp_shm_transport:type(),
    breaker := erlmcp_shm_breaker:breaker() | none,
    busy := erlmcp_shm_busy:busy(),
    status := erlmcp_shm_health:status(),
    score := float(),
    atom() => term()
}.

-type error() ::
    circuit_breaker_open
    | all_transports_failed
    | no_peer
    %% This node has no such transport: see what is logged.
    | erlmcp_shm_transport:lacking()
    | {unknown_transport, term()}
    | {unconfirmed, term()}
    | not_started
    %% Without failover, whatever the one transport says.
    | term().

-type options() :: #{auto_failover := boolean(), multiplexing := boolean(), atom() => term()}.

%% Failovers: tried, and those that found a transport.
-define(TRIED, 1).
-define(FOUND, 2).

%%% The gateway's side

%% @doc The table belongs to the calling process.
-spec new() -> ok.
new() ->
    ?MODULE = ets:new(?MODULE, [named_table, protected, {read_concurrency, true}]),
    true = ets:insert(?MODULE, {failovers, counters:new(2, [])}),
    ok.

-spec publish(options(), active | none, [route()]) -> ok.
publish(Options, Active, Routes) ->
    [{_, Failovers}] = ets:lookup(?MODULE, failovers),
    Kept = maps:with([auto_failover, multiplexing], Options),
    true = ets:insert(?MODULE, {routes, Kept#{failovers => Failovers}, Active, Routes}),
    ok.

%%% Everybody's

%% @doc All of them, in the order in which they are tried.
-spec all() -> [route()].
all() ->
    case table() of
        {_, _, Routes} -> Routes;
        not_started -> []
    end.

-spec find(term()) -> {ok, route(), active | standby} | error | not_started.
find(Pid) ->
    case table() of
        not_started ->
            not_started;
        {_, Active, Routes} ->
            case lists:splitwith(fun(Route) -> not named(Pid, Route) end, Routes) of
                {_, []} -> error;
                {[], [Route | _]} when Active =:= active -> {ok, Route, active};
                {_, [Route | _]} -> {ok, Route, standby}
            end
    end.

-spec failovers() -> {Tried :: non_neg_integer(), Found :: non_neg_integer()}.
failovers() ->
    try ets:lookup_element(?MODULE, failovers, 2) of
        Counters -> {counters:get(Counters, ?TRIED), counters:get(Counters, ?FOUND)}
    catch
        error:badarg -> {0, 0}
    end.

-spec send(pid() | active, iodata()) -> ok | {error, error()}.
send(Target, Data) ->
    %% Data that cannot be sent is the caller's mistake, not a transport's.
    _ = iolist_size(Data),
    case table() of
        not_started ->
            {error, not_started};
        {#{auto_failover := Failover} = Options, _, Routes} ->
            case targets(Target, Options, Routes) of
                unknown -> {error, {unknown_transport, Target}};
                [] -> {error, all_transports_failed};
                [Only | _] when not Failover -> take(Only, Data);
                [First | Others] -> first(take(First, Data), Others, Data, Options)
            end
    end.

table() ->
    try ets:lookup(?MODULE, routes) of
        [{routes, Options, Active, Routes}] -> {Options, Active, Routes};
        [] -> not_started
    catch
        error:badarg -> not_started
    end.

%%% Which

targets(active, #{multiplexing := true}, Routes) ->
    spread(Routes);
targets(active, _Options, Routes) ->
    Routes;
targets(Pid, _Options, Routes) ->
    case lists:partition(fun(Route) -> named(Pid, Route) end, Routes) of
        {[], _} -> unknown;
        {Named, Others} -> Named ++ Others
    end.

named(Pid, #{pid := Current, former := Former}) ->
    is_pid(Pid) andalso (Pid =:= Current orelse lists:member(Pid, Former)).

%% One of the healthy ones, more often the better it scores; the rest as they come.
spread(Routes) ->
    case [Route || #{status := healthy} = Route <- Routes] of
        [] ->
            Routes;
        Healthy ->
            Drawn = drawn(rand:uniform() * lists:sum([Score || #{score := Score} <- Healthy]), Healthy),
            [Drawn | lists:delete(Drawn, Routes)]
    end.

drawn(_At, [Last]) -> Last;
drawn(At, [#{score := Score} = Route | _]) when At < Score -> Route;
drawn(At, [#{score := Score} | Others]) -> drawn(At - Score, Others).

%%% Whether

first(ok, _Others, _Data, _Options) ->
    ok;
first({error, {unconfirmed, _}} = Unconfirmed, _Others, _Data, _Options) ->
    Unconfirmed;
first({error, Reason}, [], _Data, _Options) ->
    {error, failed([Reason])};
first({error, Reason}, Others, Data, #{failovers := Failovers}) ->
    ok = counters:add(Failovers, ?TRIED, 1),
    case next(Others, Data, [Reason]) of
        ok ->
            ok = counters:add(Failovers, ?FOUND, 1),
            erlmcp_shm_telemetry:execute([failover], #{count => 1}, #{reason => Reason, result => ok});
        {error, Failed} = Error ->
            erlmcp_shm_telemetry:execute([failover], #{count => 1}, #{reason => Reason, result => Failed}),
            Error
    end.

next([], _Data, Reasons) ->
    {error, failed(Reasons)};
next([Route | Others], Data, Reasons) ->
    case take(Route, Data) of
        ok -> ok;
        {error, {unconfirmed, _}} = Unconfirmed -> Unconfirmed;
        {error, Reason} -> next(Others, Data, [Reason | Reasons])
    end.

%% That nobody is connected anywhere is no failure of any transport's.
failed(Reasons) ->
    case lists:usort(Reasons) of
        [no_peer] -> no_peer;
        [{missing_application, _} = Lacking] -> Lacking;
        _ -> all_transports_failed
    end.

take(#{pid := none, lacks := none}, _Data) ->
    {error, down};
take(#{pid := none, lacks := Lacking}, _Data) ->
    {error, Lacking};
take(#{breaker := none} = Route, Data) ->
    call(Route, Data);
take(#{breaker := Breaker} = Route, Data) ->
    case erlmcp_shm_breaker:is_available(Breaker) of
        true ->
            Result = call(Route, Data),
            ok = report(Result, Breaker),
            Result;
        false ->
            {error, circuit_breaker_open}
    end.

report(ok, Breaker) -> erlmcp_shm_breaker:record_success(Breaker);
%% Neither says anything about how well it carries; that it is down, its supervision sees to.
report({error, Nothing}, Breaker) when Nothing =:= no_peer; Nothing =:= down ->
    erlmcp_shm_breaker:release(Breaker);
report({error, _}, Breaker) -> erlmcp_shm_breaker:record_failure(Breaker).

call(#{module := Module, pid := Pid, busy := Busy}, Data) ->
    erlmcp_shm_busy:measure(Busy, fun() ->
        try Module:send(Pid, Data) of
            ok -> ok;
            {error, _} = Error -> Error
        catch
            exit:{noproc, _} -> {error, down};
            _:Reason -> {error, {unconfirmed, Reason}}
        end
    end).
