%% @private
%% How many messages something took, and for how long it was busy with them: the union of the calls' times, so that
%% calls at the same time count once. The one divided by the other is what it can do, not what was
%% asked of it. A call that never ends, because its process was killed, leaves no trace.
%%
%% A call's time before the end of the last one that ended is taken for counted. Where a long call encloses short
%% ones some of its time is thus lost, never counted twice.
-module(erlmcp_shm_busy).

-export([new/0, measure/2, read/1]).

-export_type([busy/0]).

-opaque busy() :: atomics:atomics_ref().

-define(TAKEN, 1).
-define(BUSY, 2).
-define(END, 3).

-spec new() -> busy().
new() ->
    Busy = atomics:new(3, []),
    ok = atomics:put(Busy, ?END, erlang:monotonic_time()),
    Busy.

%% @doc Makes a call; it counts if it gives `ok'.
-spec measure(busy(), fun(() -> Result)) -> Result.
measure(Busy, Call) ->
    From = erlang:monotonic_time(),
    Result = Call(),
    case Result of
        ok ->
            ok = atomics:add(Busy, ?TAKEN, 1),
            ok = cover(Busy, From, erlang:monotonic_time());
        _ ->
            ok
    end,
    Result.

cover(Busy, From, To) ->
    case atomics:get(Busy, ?END) of
        End when End >= To ->
            ok;
        End ->
            case atomics:compare_exchange(Busy, ?END, End, To) of
                ok -> atomics:add(Busy, ?BUSY, To - max(From, End));
                _ -> cover(Busy, From, To)
            end
    end.

%% @doc In all.
-spec read(busy()) -> {Taken :: non_neg_integer(), BusyNs :: non_neg_integer()}.
read(Busy) ->
    Native = atomics:get(Busy, ?BUSY),
    {atomics:get(Busy, ?TAKEN), erlang:convert_time_unit(Native, native, nanosecond)}.
