%% @private
%% Events for nodes that have the application telemetry loaded; for others, nothing.
%%
%% `[erlmcp_claude_flow, failover]': a message went on from the transport that should have had it.
%% `[erlmcp_claude_flow, active]': another transport is the first choice now.
%% `[erlmcp_claude_flow, transport, up | down]': the process of one started, or ended.
%% `[erlmcp_claude_flow, breaker]': one changed its state.
%% `[erlmcp_claude_flow, health_check]': a probe was answered, or not.
-module(erlmcp_shm_telemetry).

-export([execute/3]).

-spec execute([atom(), ...], map(), map()) -> ok.
execute(Event, Measurements, Metadata) ->
    execute(telemetry, [erlmcp_claude_flow | Event], Measurements, Metadata).

%% The module is an argument lest anybody think that it must be there.
execute(Module, Event, Measurements, Metadata) ->
    case erlang:function_exported(Module, execute, 3) of
        true ->
            _ = Module:execute(Event, Measurements, Metadata),
            ok;
        false ->
            ok
    end.
