%% @doc A circuit breaker: closed while calls succeed, open once they fail one after the other, and after a
%% time half-open, when one call at a time may try whether things are well again.
%%
%% Whoever makes a call asks `is_available/1' first and reports with `record_success/1', `record_failure/1', or
%% `release/1' if there was nothing to learn. None of these costs a message while the breaker is closed or
%% open: state and counts are in atomics, which the process of this module alone moves from state to
%% state. What does take a message is the failure that opens it and what is reported while it is half-open,
%% and these have had their effect when they return.
-module(erlmcp_shm_breaker).

-behaviour(gen_statem).

-export([
    start_link/1,
    handle/1,
    is_available/1,
    record_success/1,
    record_failure/1,
    release/1,
    state/1,
    reset/1,
    force_open/1,
    force_close/1,
    stop/1
]).

-export([init/1, callback_mode/0, handle_event/4]).

-export_type([breaker/0, state/0, options/0]).

-type state() :: closed | half_open | open.

%% `notify' is told `{breaker, Pid, State}' whenever the state changes.
-type options() :: #{
    failure_threshold := pos_integer(),
    success_threshold := pos_integer(),
    timeout_ms := pos_integer(),
    notify => pid(),
    atom() => term()
}.

%% Where a breaker's state can be read, and the process that moves it.
-record(breaker, {
    cells :: atomics:atomics_ref(),
    pid :: pid(),
    failure_threshold :: pos_integer(),
    timeout_ms :: pos_integer()
}).

-opaque breaker() :: #breaker{}.

-record(data, {
    breaker :: breaker(),
    success_threshold :: pos_integer(),
    notify :: pid() | undefined,
    successes = 0 :: non_neg_integer(),
    %% Opened by hand, and so until somebody says otherwise.
    forced = false :: boolean()
}).

%% Cells. The failures are consecutive ones and count while closed; the probe is the time at which the one call
%% of the half-open state was let through, or 0.
-define(STATE, 1).
-define(FAILURES, 2).
-define(PROBE, 3).
-define(CELLS, 3).

%%% API

-spec start_link(options()) -> {ok, pid()}.
start_link(Options) ->
    {ok, _} = gen_statem:start_link(?MODULE, Options, []).

%% @doc What the other functions take.
-spec handle(pid()) -> breaker().
handle(Pid) ->
    gen_statem:call(Pid, handle).

%% @doc Whether a call may be made. True while half-open is a promise to report: until then, or until as much time
%% has passed as the breaker stays open, nobody else is told so.
-spec is_available(breaker()) -> boolean().
is_available(#breaker{cells = Cells, timeout_ms = Timeout}) ->
    case name(atomics:get(Cells, ?STATE)) of
        closed -> true;
        open -> false;
        half_open -> take_probe(Cells, Timeout)
    end.

%% Who took it may have died: then it is taken over.
take_probe(Cells, Timeout) ->
    Now = erlang:monotonic_time(millisecond) bor 1,
    case atomics:get(Cells, ?PROBE) of
        Since when Since =/= 0, Now - Since < Timeout -> false;
        Free -> atomics:compare_exchange(Cells, ?PROBE, Free, Now) =:= ok
    end.

-spec record_success(breaker()) -> ok.
record_success(#breaker{cells = Cells} = Breaker) ->
    case name(atomics:get(Cells, ?STATE)) of
        closed ->
            %% Read first: a write would take the cache line away from everybody else.
            case atomics:get(Cells, ?FAILURES) of
                0 -> ok;
                _ -> atomics:put(Cells, ?FAILURES, 0)
            end;
        open ->
            ok;
        half_open ->
            tell(Breaker, success)
    end.

-spec record_failure(breaker()) -> ok.
record_failure(#breaker{cells = Cells, failure_threshold = Threshold} = Breaker) ->
    case name(atomics:get(Cells, ?STATE)) of
        closed ->
            case atomics:add_get(Cells, ?FAILURES, 1) of
                N when N >= Threshold -> tell(Breaker, threshold);
                _ -> ok
            end;
        open ->
            ok;
        half_open ->
            tell(Breaker, failure)
    end.

%% @doc The call was not made, or says nothing about what the breaker guards.
-spec release(breaker()) -> ok.
release(#breaker{cells = Cells}) ->
    atomics:put(Cells, ?PROBE, 0).

-spec state(breaker()) -> state().
state(#breaker{cells = Cells}) ->
    name(atomics:get(Cells, ?STATE)).

%% @doc As if new.
-spec reset(breaker()) -> ok.
reset(Breaker) ->
    tell(Breaker, close).

%% @doc Opens it, until `reset/1' or `force_close/1'.
-spec force_open(breaker()) -> ok.
force_open(Breaker) ->
    tell(Breaker, force_open).

-spec force_close(breaker()) -> ok.
force_close(Breaker) ->
    tell(Breaker, close).

-spec stop(breaker()) -> ok.
stop(#breaker{pid = Pid}) ->
    try
        gen_statem:stop(Pid)
    catch
        exit:_ -> ok
    end.

%% A caller is not harmed by a breaker that is gone.
tell(#breaker{pid = Pid}, Event) ->
    try
        gen_statem:call(Pid, Event)
    catch
        exit:_ -> ok
    end.

%% As Prometheus shows them.
name(0) -> closed;
name(1) -> half_open;
name(2) -> open.

number(closed) -> 0;
number(half_open) -> 1;
number(open) -> 2.

%%% The process

%% @private
-spec callback_mode() -> [handle_event_function | state_enter].
callback_mode() ->
    [handle_event_function, state_enter].

%% @private
-spec init(options()) -> {ok, state(), #data{}}.
init(#{failure_threshold := Failures, success_threshold := Successes, timeout_ms := Timeout} = Options) ->
    Breaker = #breaker{
        cells = atomics:new(?CELLS, []),
        pid = self(),
        failure_threshold = Failures,
        timeout_ms = Timeout
    },
    Notify = maps:get(notify, Options, undefined),
    {ok, closed, #data{breaker = Breaker, success_threshold = Successes, notify = Notify}}.

%% @private
-spec handle_event(gen_statem:event_type() | enter, term(), state(), #data{}) ->
    gen_statem:event_handler_result(state()) | gen_statem:state_enter_result(state()).
handle_event(enter, Before, State, #data{breaker = #breaker{timeout_ms = Timeout}} = Data) ->
    entered(Before, State, Data),
    case {State, Data} of
        {open, #data{forced = false}} ->
            {keep_state_and_data, [{state_timeout, Timeout, half_open}]};
        {half_open, _} ->
            {keep_state, Data#data{successes = 0}};
        _ ->
            keep_state_and_data
    end;
handle_event(state_timeout, half_open, open, Data) ->
    {next_state, half_open, Data};
handle_event({call, From}, handle, _State, #data{breaker = Breaker}) ->
    {keep_state_and_data, [{reply, From, Breaker}]};
handle_event({call, From}, Event, State, Data) ->
    case next(Event, State, Data) of
        {State, #data{forced = true} = Next} ->
            {keep_state, Next, [{state_timeout, cancel}, {reply, From, ok}]};
        {State, Next} ->
            {keep_state, Next, [{reply, From, ok}]};
        {Other, Next} ->
            {next_state, Other, Next, [{reply, From, ok}]}
    end;
handle_event(_Type, _Event, _State, _Data) ->
    keep_state_and_data.

%% What was reported in one state may arrive in the next: it counts for what it says there.
next(force_open, _State, Data) ->
    {open, Data#data{forced = true}};
next(close, closed, #data{breaker = #breaker{cells = Cells}} = Data) ->
    ok = atomics:put(Cells, ?FAILURES, 0),
    {closed, Data};
next(close, _State, Data) ->
    {closed, Data#data{forced = false}};
next(success, half_open, #data{successes = N, success_threshold = Threshold} = Data) when
    N + 1 < Threshold
->
    ok = release(Data#data.breaker),
    {half_open, Data#data{successes = N + 1}};
next(success, half_open, Data) ->
    {closed, Data};
next(Failure, half_open, Data) when Failure =:= failure; Failure =:= threshold ->
    {open, Data};
next(threshold, closed, #data{breaker = #breaker{cells = Cells, failure_threshold = Threshold}} = Data) ->
    %% A success may have come in between.
    case atomics:get(Cells, ?FAILURES) of
        N when N >= Threshold -> {open, Data};
        _ -> {closed, Data}
    end;
next(_Late, State, Data) ->
    {State, Data}.

%% The state is the last to be seen, when all that goes with it is there.
entered(Before, State, #data{breaker = #breaker{cells = Cells}, notify = Notify}) ->
    ok = atomics:put(Cells, ?FAILURES, 0),
    ok = atomics:put(Cells, ?PROBE, 0),
    ok = atomics:put(Cells, ?STATE, number(State)),
    _ = [Notify ! {breaker, self(), State} || is_pid(Notify), Before =/= State],
    ok.
