%% @private
%% The processes of the gateway: its transports, which it restarts itself, after pauses, and for the rest what must
%% simply be there.
-module(erlmcp_shm_transport_sup).

-behaviour(supervisor).

-export([start_link/0, stop/1, start/4, stop/2, start_other/2, init/1]).

%% For a transport that was asked to close and did not: it has had its time.
-define(SHUTDOWN_MS, 1000).

%% @doc For the gateway, of which there is one. Should another supervisor of this name be there, then its gateway was
%% killed and it is about to end, in its turn after what it supervises.
-spec start_link() -> {ok, pid()}.
start_link() ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {ok, _} = Ok ->
            Ok;
        {error, {already_started, Former}} ->
            Monitor = monitor(process, Former),
            receive
                {'DOWN', Monitor, process, Former, _} -> start_link()
            end
    end.

%% @doc Ends it and all that it supervises. For the process that started it.
-spec stop(pid()) -> ok.
stop(Supervisor) ->
    Monitor = monitor(process, Supervisor),
    true = unlink(Supervisor),
    exit(Supervisor, shutdown),
    receive
        {'DOWN', Monitor, process, Supervisor, _} -> ok
    end.

%% @doc Starts a transport whose owner is the calling process.
-spec start(pid(), Id :: term(), module(), map()) -> {ok, pid()} | {error, term()}.
start(Supervisor, Id, Module, Config) ->
    Spec = #{
        id => Id,
        start => {Module, start_link, [Config, self()]},
        restart => temporary,
        shutdown => ?SHUTDOWN_MS
    },
    started(supervisor:start_child(Supervisor, Spec)).

-spec stop(pid(), Id :: term()) -> ok.
stop(Supervisor, Id) ->
    try
        _ = supervisor:terminate_child(Supervisor, Id),
        ok
    catch
        exit:_ -> ok
    end.

%% @doc Starts the exporter, or the bridge.
-spec start_other(pid(), supervisor:child_spec()) -> ok | {error, term()}.
start_other(Supervisor, Spec) ->
    case started(supervisor:start_child(Supervisor, Spec)) of
        {ok, _} -> ok;
        {error, {already_started, _}} -> ok;
        {error, _} = Error -> Error
    end.

%% A supervisor wraps what a child's start function says.
started({ok, Pid}) when is_pid(Pid) -> {ok, Pid};
started({ok, undefined}) -> {error, ignored};
started({error, {Reason, Child}}) when element(1, Child) =:= child -> {error, Reason};
started({error, Reason}) -> {error, Reason}.

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Metrics = #{id => erlmcp_shm_metrics, start => {erlmcp_shm_metrics, start_link, []}},
    {ok, {#{strategy => one_for_one, intensity => 50, period => 10}, [Metrics]}}.
