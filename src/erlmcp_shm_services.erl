%% @private
%% What the node's sessions share, started when the first of them wants it: who tells them of changes, and who listens.
%%
%% With the application this supervisor is part of its tree, before what uses it. Transports can be started without the
%% application too; then the first one starts it, and it belongs to nobody.
-module(erlmcp_shm_services).

-behaviour(supervisor).

-export([start_link/0, ensure/1, init/1]).

%% @doc Where it has been started by a transport it stays what it is.
-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {error, {already_started, _}} -> ignore;
        Started -> Started
    end.

%% @doc Returns once this service is there, or its supervisor gave up on it.
-spec ensure(erlmcp_shm_changes | erlmcp_shm_listener) -> ok.
ensure(Service) ->
    case whereis(Service) of
        undefined -> start(Service);
        _ -> ok
    end.

start(Service) ->
    try
        _ = supervisor:start_child(?MODULE, #{id => Service, start => {Service, start_link, []}}),
        ok
    catch
        exit:{noproc, _} ->
            {Pid, Monitor} = spawn_monitor(fun unowned/0),
            receive
                {'DOWN', Monitor, process, Pid, _} -> start(Service)
            end
    end.

unowned() ->
    case start_link() of
        {ok, Pid} -> true = unlink(Pid);
        ignore -> true
    end.

%% The subscriptions outlive who serves them.
%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    ok = erlmcp_shm_changes:new(),
    {ok, {#{strategy => one_for_one, intensity => 50, period => 10}, []}}.
