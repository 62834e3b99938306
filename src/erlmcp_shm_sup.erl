%% @private
-module(erlmcp_shm_sup).

-behaviour(supervisor).

-export([start_link/2, init/1]).

-type role() :: node | stdio.
%% `stdio': the server of one client, which may run beside the node of the same configuration. It takes nothing that is that
%% node's: of the transports it has the one over its own standard input and output, the file it reads, and it bridges nothing.

-spec start_link(erlmcp_shm_config:config(), role()) -> {ok, pid()} | {error, term()}.
start_link(Config, Role) ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, {Config, Role}) of
        {ok, _} = Ok -> Ok;
        {error, _} = Error -> Error
    end.

%% A restarted exporter adopts the open writer, so a restart costs next to nothing; the limit is
%% there for an exporter that dies at every heartbeat.
-spec init({erlmcp_shm_config:config(), role()}) ->
    {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init({Config, Role}) ->
    {ok, {#{strategy => one_for_one, intensity => 50, period => 10}, children(Config, Role)}}.

%% The exporter, the bridge and what sessions share have places of their own here, so that they do not end with the gateway.
%% (A session may be of a transport that somebody started by itself.)
children(#{enabled := false}, _) ->
    [];
children(#{shared_memory := SharedMemory, bridge := Bridge, transports := Transports} = Config, Role) ->
    Gateway = Config#{
        shared_memory := SharedMemory#{enabled := false},
        bridge := Bridge#{enabled := false},
        transports := transports(Role, Transports)
    },
    Services = #{id => erlmcp_shm_services, start => {erlmcp_shm_services, start_link, []}, type => supervisor},
    lists:append([
        [Services],
        [exporter(Role, SharedMemory) || enabled(SharedMemory)],
        [erlmcp_claude_flow:child_spec(Gateway)],
        [erlmcp_shm_bridge:child_spec(Bridge) || Role =:= node, enabled(Bridge)]
    ]).

transports(node, Transports) -> Transports;
transports(stdio, Transports) -> [Transport || #{type := stdio} = Transport <- Transports].

exporter(node, Options) -> erlmcp_shm_exporter:child_spec(Options);
exporter(stdio, Options) -> (exporter(node, Options))#{start := {erlmcp_shm_exporter, start_reading, [Options]}}.

enabled(#{enabled := Enabled}) ->
    Enabled.
