%% @doc The gateway: keeps transports running, knows how well each of them is, and sends through the best.
%%
%% A transport that crashes is started anew, at once the first time and then after growing pauses; one that
%% cannot start is tried again in the same way. Meanwhile messages go to the others. What a transport
%% receives goes to the configured `owner' as `{transport_message, Pid, Bin}'.
%%
%% This process decides, and `send/2' does not wait for it (see erlmcp_shm_route).
-module(erlmcp_claude_flow).

-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, child_spec/1, select_transport/2, send/2, close/1, metrics/0, get_info/1]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([transport_config/0, info/0]).

-type transport_config() :: #{
    type := erlmcp_shm_transport:type(),
    config => map(),
    priority => 0..10,
    health_check => boolean(),
    %% A transport of one's own: a module with the behaviour erlmcp_shm_transport.
    module => module()
}.

-type info() :: #{
    type := erlmcp_shm_transport:type(),
    state := active | standby | down | unavailable,
    health := erlmcp_shm_health:status(),
    score := float(),
    latency_ms := float() | undefined,
    throughput := float() | undefined,
    peers := non_neg_integer(),
    breaker := erlmcp_shm_breaker:state(),
    restarts := non_neg_integer(),
    %% What the transport says of itself, such as the port it listens on.
    atom() => term()
}.

-record(state, {
    config :: erlmcp_shm_config:config(),
    supervisor :: pid(),
    %% By priority; of equals, as they were given.
    transports = [] :: [erlmcp_shm_managed:managed()],
    active = none :: erlmcp_shm_managed:id() | none,
    closing = #{} :: #{reference() => gen_server:from()}
}).

%% How long what is queued may take to go out.
-define(DRAIN_MS, 5000).

%%% API

%% @doc Starts the node's gateway and its transports. That one of those cannot start is no reason not to.
-spec start_link(map()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Options) ->
    case erlmcp_shm_config:claude_flow(Options) of
        {ok, #{enabled := false}} -> ignore;
        {ok, Config} -> gen_server:start_link({local, ?MODULE}, ?MODULE, Config, []);
        {error, _} = Error -> Error
    end.

%% @doc For a supervisor of your own.
-spec child_spec(map()) -> supervisor:child_spec().
child_spec(Options) ->
    #{id => ?MODULE, start => {?MODULE, start_link, [Options]}, shutdown => 2 * ?DRAIN_MS}.

%% @doc The best of these transports, by score, which is started unless it runs already. One that has just been
%% started is kept like any other, and is the active one if there was none. (What callers say of
%% the context has no influence yet.)
-spec select_transport([transport_config()], Context :: map()) -> {ok, pid()} | {error, term()}.
select_transport(Transports, Context) when is_map(Context) ->
    case erlmcp_shm_config:transports(Transports) of
        {ok, Checked} -> call({select, Checked});
        {error, _} = Error -> Error
    end.

%% @doc `ok' once a transport has taken the message, and an error, whatever it is, is the caller's to deal with:
%% nothing is kept and tried later. A transport is named by its process, or by one that ran it before.
-spec send(pid() | active, iodata()) -> ok | {error, erlmcp_shm_route:error()}.
send(Target, Data) ->
    erlmcp_shm_route:send(Target, Data).

%% @doc Ends a transport for good. What it has taken goes out first, for five seconds at most.
-spec close(pid()) -> ok | {error, term()}.
close(Pid) ->
    call({close, Pid}).

%% @doc See {@link erlmcp_shm_metrics}.
-spec metrics() -> erlmcp_shm_metrics:claude_flow_metrics().
metrics() ->
    erlmcp_shm_metrics:claude_flow().

-spec get_info(pid()) -> {ok, info()} | {error, {unknown_transport, term()} | not_started}.
get_info(Pid) ->
    case erlmcp_shm_route:find(Pid) of
        {ok, Route, Place} -> {ok, erlmcp_shm_managed:info(Route, Place)};
        error -> {error, {unknown_transport, Pid}};
        not_started -> {error, not_started}
    end.

call(Request) ->
    try
        gen_server:call(?MODULE, Request, infinity)
    catch
        exit:{noproc, _} -> {error, not_started}
    end.

%%% The process

%% @private
-spec init(erlmcp_shm_config:config()) -> {ok, #state{}} | {stop, term()}.
init(#{transports := Transports} = Config) ->
    _ = process_flag(trap_exit, true),
    _ = code:ensure_loaded(telemetry),
    {ok, Supervisor} = erlmcp_shm_transport_sup:start_link(),
    ok = erlmcp_shm_route:new(),
    case others(Config, Supervisor) of
        ok ->
            State = #state{config = Config, supervisor = Supervisor},
            check_later(State),
            {ok, decide(lists:foldl(fun add/2, State, Transports))};
        {error, Reason} ->
            {stop, Reason}
    end.

%% What the configuration asks for and does not run yet.
others(#{shared_memory := SharedMemory, bridge := Bridge}, Supervisor) ->
    case unless_there(erlmcp_shm_exporter, SharedMemory, Supervisor) of
        ok -> unless_there(erlmcp_shm_bridge, Bridge, Supervisor);
        {error, _} = Error -> Error
    end.

unless_there(Module, #{enabled := true} = Options, Supervisor) ->
    case whereis(Module) of
        undefined -> erlmcp_shm_transport_sup:start_other(Supervisor, Module:child_spec(Options));
        _ -> ok
    end;
unless_there(_, _, _) ->
    ok.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}}.
handle_call({select, Candidates}, _From, State) ->
    {Reply, Next} = select(Candidates, State),
    {reply, Reply, decide(Next)};
handle_call({close, Pid}, From, #state{transports = Transports, closing = Closing} = State) ->
    case erlmcp_shm_managed:find(Pid, Transports) of
        {ok, Managed} ->
            %% First nothing new goes to it.
            Without = decide(State#state{transports = lists:delete(Managed, Transports)}),
            {_, Monitor} = spawn_monitor(fun() -> end_it(Managed, State) end),
            {noreply, Without#state{closing = Closing#{Monitor => From}}};
        error ->
            {reply, {error, {unknown_transport, Pid}}, State}
    end;
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({transport_message, _Pid, _Bin} = Message, #state{config = #{owner := Owner}} = State) ->
    tell(Owner, Message),
    {noreply, State};
handle_info(check, State) ->
    check_later(State),
    {noreply, decide(each(fun erlmcp_shm_managed:check/1, State))};
handle_info({checked, Id, Pid, Result}, State) ->
    {noreply, decide(one(Id, fun(M) -> erlmcp_shm_managed:checked(Pid, Result, M) end, State))};
handle_info({restart, Id}, State) ->
    {noreply, decide(one(Id, fun(M) -> run(M, State) end, State))};
handle_info({breaker, Pid, BreakerState}, State) ->
    erlmcp_shm_telemetry:execute([breaker], #{count => 1}, #{breaker => Pid, state => BreakerState}),
    {noreply, decide(State)};
handle_info({'EXIT', Supervisor, Reason}, #state{supervisor = Supervisor} = State) ->
    {stop, Reason, State};
handle_info({'EXIT', Pid, Reason}, State) ->
    ended(Pid, Reason, State);
handle_info({'DOWN', Monitor, process, Pid, Reason}, #state{closing = Closing} = State) ->
    case maps:take(Monitor, Closing) of
        {From, Left} ->
            gen_server:reply(From, ok),
            {noreply, State#state{closing = Left}};
        error ->
            {noreply, decide(down(Pid, Reason, State))}
    end;
handle_info(_Message, State) ->
    {noreply, State}.

%% @private
%% All at once, so that it takes no longer than one.
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{transports = Transports, supervisor = Supervisor} = State) ->
    Ending = [spawn_monitor(fun() -> end_it(Managed, State) end) || Managed <- Transports],
    _ = [
        receive
            {'DOWN', Monitor, process, Pid, _} -> ok
        end
     || {Pid, Monitor} <- Ending
    ],
    erlmcp_shm_transport_sup:stop(Supervisor).

%% The owner may be a name that nobody bears.
tell(Owner, Message) when is_pid(Owner) ->
    _ = Owner ! Message,
    ok;
tell(Owner, Message) ->
    case whereis(Owner) of
        undefined -> ok;
        Pid -> tell(Pid, Message)
    end.

%%% Transports

add(Transport, #state{config = Config, transports = Transports} = State) ->
    Managed = run(erlmcp_shm_managed:new(Transport, Config), State),
    State#state{transports = erlmcp_shm_managed:insert(Managed, Transports)}.

%% Those that are not there yet are judged as what they would be if they were.
select(Candidates, #state{transports = Transports} = State) ->
    Known = [
        case erlmcp_shm_managed:same(Candidate, Transports) of
            {ok, Managed} -> {Candidate, erlmcp_shm_managed:candidate(Managed)};
            error -> {Candidate, erlmcp_shm_health:score({healthy, maps:get(priority, Candidate)}, erlmcp_shm_health:new())}
        end
     || Candidate <- Candidates
    ],
    Ordered = erlmcp_shm_health:order([Judged#{transport => Candidate} || {Candidate, Judged} <- Known]),
    first_that_runs([Candidate || #{transport := Candidate} <- Ordered], [], State).

%% If all that is wrong is that the node lacks something, then this is said.
first_that_runs([], Lacking, State) ->
    case lists:usort(Lacking) of
        [{missing_application, _} = All] -> {{error, All}, State};
        _ -> {{error, no_transports_available}, State}
    end;
first_that_runs([Candidate | Others], Lacking, #state{transports = Transports} = State) ->
    {Managed, Elsewhere} =
        case erlmcp_shm_managed:same(Candidate, Transports) of
            {ok, Same} -> {run(Same, State), lists:delete(Same, Transports)};
            error -> {run(erlmcp_shm_managed:new(Candidate, State#state.config), State), Transports}
        end,
    case Managed of
        #{pid := none, lacks := Lacks} when Elsewhere =:= Transports ->
            %% It never ran, and nobody but the caller has asked for it.
            ok = erlmcp_shm_managed:forget(Managed),
            first_that_runs(Others, [Lacks | Lacking], State);
        #{pid := Pid, lacks := Lacks} ->
            Next = State#state{transports = erlmcp_shm_managed:insert(Managed, Elsewhere)},
            case Pid of
                none -> first_that_runs(Others, [Lacks | Lacking], Next);
                _ -> {{ok, Pid}, Next}
            end
    end.

run(Managed, #state{supervisor = Supervisor}) ->
    erlmcp_shm_managed:start(Supervisor, Managed).

%% What was linked to us ended, and is no transport: a breaker, whose place another one takes, or whoever thought
%% it wise to be linked.
ended(Pid, Reason, State) ->
    Next = each(fun(M) -> erlmcp_shm_managed:breaker_ended(Pid, M) end, State),
    case Next of
        State when Reason =/= normal -> {stop, Reason, State};
        _ -> {noreply, decide(Next)}
    end.

down(Pid, Reason, #state{transports = Transports} = State) ->
    case [M || #{pid := P} = M <- Transports, P =:= Pid] of
        [] ->
            State;
        [#{id := Id} = Managed] ->
            case erlmcp_shm_managed:down(Reason, Managed) of
                gone -> State#state{transports = lists:delete(Managed, Transports)};
                Down -> one(Id, fun(_) -> Down end, State)
            end
    end.

end_it(#{pid := none} = Managed, _State) ->
    erlmcp_shm_managed:forget(Managed);
end_it(#{pid := Pid, module := Module, id := Id} = Managed, #state{supervisor = Supervisor}) ->
    _ = erlmcp_shm_deadline:run(fun() -> Module:close(Pid) end, ?DRAIN_MS),
    ok = erlmcp_shm_transport_sup:stop(Supervisor, Id),
    erlmcp_shm_managed:forget(Managed).

each(Fun, #state{transports = Transports} = State) ->
    State#state{transports = [Fun(Managed) || Managed <- Transports]}.

one(Id, Fun, State) ->
    each(
        fun
            (#{id := I} = Managed) when I =:= Id -> Fun(Managed);
            (Managed) -> Managed
        end,
        State
    ).

check_later(#state{config = #{health_check_interval := Ms}}) ->
    _ = erlang:send_after(Ms, self(), check),
    ok.

%%% Which is active

%% After every event: who is first now, and everybody is told.
decide(#state{config = Config, transports = Transports, active = Active} = State) ->
    Candidates = [erlmcp_shm_managed:candidate(Managed) || Managed <- Transports],
    case erlmcp_shm_health:choose(current(Config, Active, Candidates), Candidates) of
        none ->
            ok = erlmcp_shm_route:publish(Config, none, []),
            State#state{active = none};
        #{id := Id} = First ->
            Others = erlmcp_shm_health:order([C || #{id := Other} = C <- Candidates, Other =/= Id]),
            Routes = [erlmcp_shm_managed:route(Managed) || #{managed := Managed} <- [First | Others]],
            ok = erlmcp_shm_route:publish(Config, active, Routes),
            _ = [tell_of(Active, First) || Id =/= Active],
            State#state{active = Id}
    end.

%% Without failover the first choice remains it for as long as it is there.
current(#{auto_failover := Failover}, Active, Candidates) ->
    case [Candidate || #{id := Id} = Candidate <- Candidates, Id =:= Active] of
        [] -> none;
        [Current] when Failover -> Current;
        [Current] -> Current#{status := healthy, score := 1.0}
    end.

tell_of(none, _) ->
    ok;
tell_of(_Before, #{managed := #{type := Type}, status := Status, score := Score}) ->
    erlmcp_shm_telemetry:execute([active], #{score => Score}, #{type => Type, health => Status}),
    ?LOG_NOTICE(#{what => active_transport, type => Type, health => Status, score => Score}).
