%% @private
-module(erlmcp_shm_app).

-behaviour(application).

-export([start/2, stop/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    case erlmcp_shm_config:load() of
        {ok, Config} -> erlmcp_shm_sup:start_link(Config, application:get_env(erlmcp_shm, role, node));
        {error, _} = Error -> Error
    end.

%% The supervision tree is gone by now, yet a writer may still be held: by an exporter that
%% crashed until its supervisor gave up, or by one that lives under somebody else's supervisor.
%% Once the application is stopped, this node must not keep others from the file.
-spec stop(term()) -> ok.
stop(_State) ->
    try
        gen_server:stop(erlmcp_shm_exporter, normal, 5000)
    catch
        exit:_ -> ok
    end,
    ok = erlmcp_shm_bridge:forget(),
    erlmcp_shm_store:release().
