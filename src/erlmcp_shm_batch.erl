%% @private
%% Messages that are to be written together: one write for many, to save system calls and packets. The messages
%% themselves stay what they are.
-module(erlmcp_shm_batch).

-export([new/1, add/2, take/1]).

-export_type([batch/0]).

-record(batch, {
    max_size :: pos_integer(),
    max_bytes :: pos_integer(),
    max_delay :: non_neg_integer(),
    %% Newest first.
    waiting = [] :: [binary()],
    size = 0 :: non_neg_integer(),
    bytes = 0 :: non_neg_integer(),
    timer :: reference() | undefined
}).

-opaque batch() :: #batch{}.

%% @doc As a transport is configured: `batching' and `batch_config'.
-spec new(map()) -> batch().
new(#{batching := true} = Config) ->
    Limits = maps:get(batch_config, Config, #{}),
    #batch{
        max_size = maps:get(max_batch_size, Limits, 50),
        max_bytes = maps:get(max_batch_bytes, Limits, 32768),
        max_delay = maps:get(max_batch_delay_ms, Limits, 5)
    };
new(_) ->
    #batch{max_size = 1, max_bytes = 1, max_delay = 0}.

%% @doc One more message. What comes back is to be written now; where nothing does, the process gets the message
%% `erlmcp_shm_batch_due' once the batch has waited long enough.
-spec add(binary(), batch()) -> {[binary()], batch()}.
add(Message, #batch{waiting = Waiting, size = Size, bytes = Bytes} = Batch) ->
    More = Batch#batch{waiting = [Message | Waiting], size = Size + 1, bytes = Bytes + byte_size(Message)},
    case More of
        #batch{max_size = Max, size = Now} when Now >= Max -> take(More);
        #batch{max_bytes = Max, bytes = Now} when Now >= Max -> take(More);
        #batch{max_delay = 0} -> take(More);
        #batch{timer = undefined, max_delay = Delay} ->
            {[], More#batch{timer = erlang:send_after(Delay, self(), erlmcp_shm_batch_due)}};
        _ -> {[], More}
    end.

%% @doc All that waits, oldest first.
-spec take(batch()) -> {[binary()], batch()}.
take(#batch{waiting = Waiting, timer = Timer} = Batch) ->
    _ = Timer =:= undefined orelse erlang:cancel_timer(Timer, [{async, true}, {info, false}]),
    {lists:reverse(Waiting), Batch#batch{waiting = [], size = 0, bytes = 0, timer = undefined}}.
