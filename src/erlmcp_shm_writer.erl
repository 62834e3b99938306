%% @private
%% The node's one open writer: who holds it, and when it is let go.
%%
%% The handle lives in a persistent term, not in a process. Exports read it at the cost of a hash
%% lookup, and it outlives an exporter that crashes: the next one adopts it, so nobody meets
%% `locked', nothing is read back from disk and, with `recover => clear', nothing is cleared twice.
%% What ends it is `release/0', or the node's death, upon which the kernel drops the lock.
%%
%% A persistent term that is erased is freed once no process refers to it any more, and the arguments of a call
%% that runs on a dirty scheduler escape that check (seen on OTP 25: the node dies). So such calls are
%% given a handle on the caller's own heap, see `own/1'.
%%
%% `acquire/1' is called by the exporter's process alone, and that process is registered: the name is the
%% mutex. `release/0' is called by the same process as it ends, or by the application once it is gone.
-module(erlmcp_shm_writer).

-export([acquire/1, release/0, held/0, own/1]).

-export_type([held/0]).

%% How long a writer whose handle was lost may take to end: a second. (Then the supervisor is told `locked'.)
-define(TRIES_AFTER_LOSS, 20).
-define(PAUSE_AFTER_LOSS, 50).

-type held() :: {erlmcp_shm_nif:writer(), erlmcp_shm_config:exporter()}.

%% @doc The open writer and the options it was opened with.
-spec held() -> held() | undefined.
held() ->
    persistent_term:get(?MODULE, undefined).

%% @doc Adopts the writer that is held if it was opened with these very options, else opens one.
-spec acquire(erlmcp_shm_config:exporter()) ->
    {ok, erlmcp_shm_nif:writer()} | {error, erlmcp_shm_nif:reason()}.
acquire(#{recover := Recover} = Config) ->
    case held() of
        {Writer, Config} ->
            case usable(Writer) of
                true -> {ok, Writer};
                %% A writer that failed is reopened, and what it had published is kept: the
                %% clearing that was asked for was done when this writer was first opened.
                false -> reopen(Config, keep)
            end;
        _ ->
            reopen(Config, Recover)
    end.

%% @doc Closes the writer that is held, if any. The name goes first: whoever asks meanwhile is told
%% that nothing is started, rather than that it is closed.
-spec release() -> ok.
release() ->
    _ = let_go(),
    ok.

%% `lost': the handle is of a library that was purged, and the one that is loaded now does not know it. Its
%% writer ends when the handle is freed, which the system does once it has looked at every process.
let_go() ->
    case held() of
        undefined ->
            closed;
        {Writer, _} ->
            Own = own(Writer),
            _ = persistent_term:erase(?MODULE),
            try erlmcp_shm_nif:close(Own) of
                ok -> closed
            catch
                error:badarg -> lost
            end
    end.

%% @doc The same handle, on the heap of the calling process. A resource survives its external form for as
%% long as it is alive, which the persistent term sees to.
-spec own(Handle) -> Handle when Handle :: erlmcp_shm_nif:handle().
own(Handle) ->
    binary_to_term(term_to_binary(Handle)).

reopen(Config, Recover) ->
    Tries =
        case let_go() of
            closed -> 1;
            lost -> ?TRIES_AFTER_LOSS
        end,
    #{path := Path, on_locked := OnLocked} = Config,
    Native = maps:with([size, max_size, mode, heartbeat_interval], Config),
    case open(Path, Native#{recover => Recover, lock_wait => wait(OnLocked)}, Tries) of
        {ok, Writer} ->
            ok = persistent_term:put(?MODULE, {Writer, Config}),
            {ok, Writer};
        {error, _} = Error ->
            Error
    end.

open(Path, Options, Tries) ->
    case erlmcp_shm_nif:open(Path, Options) of
        {error, locked} when Tries > 1 ->
            _ = garbage_collect(),
            timer:sleep(?PAUSE_AFTER_LOSS),
            open(Path, Options, Tries - 1);
        Result ->
            Result
    end.

wait(stop) -> 0;
wait({wait, Ms}) -> Ms.

usable(Writer) ->
    try erlmcp_shm_nif:stats(Writer) of
        {ok, #{state := State}} -> State =:= live orelse State =:= building;
        {error, _} -> false
    catch
        error:badarg -> false
    end.
