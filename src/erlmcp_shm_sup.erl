%% @private
-module(erlmcp_shm_sup).

-behaviour(supervisor).

-export([start_link/1, init/1]).

-spec start_link(erlmcp_shm_config:config()) -> {ok, pid()} | {error, term()}.
start_link(Config) ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, Config) of
        {ok, _} = Ok -> Ok;
        {error, _} = Error -> Error
    end.

%% A restarted exporter adopts the open writer, so a restart costs next to nothing; the limit is
%% there for an exporter that dies at every heartbeat.
-spec init(erlmcp_shm_config:config()) ->
    {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Config) ->
    {ok, {#{strategy => one_for_one, intensity => 50, period => 10}, children(Config)}}.

%% The exporter, the bridge and what sessions share have places of their own here, so that they do not end with the gateway.
%% (A session may be of a transport that somebody started by itself.)
children(#{enabled := false}) ->
    [];
children(#{shared_memory := SharedMemory, bridge := Bridge} = Config) ->
    Gateway = Config#{shared_memory := SharedMemory#{enabled := false}, bridge := Bridge#{enabled := false}},
    Services = #{id => erlmcp_shm_services, start => {erlmcp_shm_services, start_link, []}, type => supervisor},
    lists:append([
        [Services],
        [erlmcp_shm_exporter:child_spec(SharedMemory) || enabled(SharedMemory)],
        [erlmcp_claude_flow:child_spec(Gateway)],
        [erlmcp_shm_bridge:child_spec(Bridge) || enabled(Bridge)]
    ]).

enabled(#{enabled := Enabled}) ->
    Enabled.
