%% @private
%% What may be configured, of which type, with which default: one table per map (see erlmcp_shm_check). Every
%% map comes out complete and checked, so nobody downstream asks for a default or doubts a value.
%%
%% Paths in `{bad_config, Path, Value}' start at the `claude_flow' map, also for the exporter's own argument:
%% what is said of `size' is the same wherever it was written. Elements of lists count from 0.
-module(erlmcp_shm_config).

-export([load/0, claude_flow/1, exporter/1, transports/1, path/1, tables/0]).

-export_type([config/0, exporter/0, transport/0, breaker/0, bad_config/0]).

-type exporter() :: #{
    enabled := boolean(),
    path := binary(),
    size := pos_integer(),
    max_size := pos_integer(),
    flush_interval := non_neg_integer(),
    mode := non_neg_integer(),
    recover := keep | clear,
    heartbeat_interval := pos_integer(),
    on_locked := stop | {wait, Ms :: non_neg_integer()}
}.

-type config() :: #{
    enabled := boolean(),
    shared_memory := exporter(),
    transports := [transport()],
    auto_failover := boolean(),
    multiplexing := boolean(),
    health_check_interval := pos_integer(),
    circuit_breaker := breaker(),
    bridge := erlmcp_shm_bridge_config:bridge(),
    owner := pid() | atom()
}.

-type transport() :: #{
    type := erlmcp_shm_transport:type(),
    module := module(),
    priority := 0..10,
    health_check := boolean(),
    config := map()
}.

-type breaker() :: #{
    enabled := boolean(),
    failure_threshold := pos_integer(),
    success_threshold := pos_integer(),
    timeout_ms := pos_integer()
}.

-type bad_config() :: erlmcp_shm_check:bad_config().

-define(DEFAULT_PATH, <<"/dev/shm/erlmcp_export.bin">>).
%% What the file format can hold; a rollover has two generations at once.
-define(MIN_BYTES, 8192).
-define(MAX_BYTES, (1 bsl 46)).
%% The longest timer there is.
-define(MAX_MS, 16#FFFFFFFF).
-define(MANY, (1 bsl 31)).

%%% Tables

claude_flow_keys() ->
    [
        {enabled, boolean, true},
        {shared_memory, {section, shared_memory_keys()}, false},
        {transports, fun transports/2, []},
        {auto_failover, boolean, true},
        {multiplexing, boolean, false},
        {health_check_interval, {integer, 1, ?MAX_MS}, 30000},
        {circuit_breaker, {section, circuit_breaker_keys()}, true},
        %% Whether what erlmcp's servers have is published.
        {bridge, {section, erlmcp_shm_bridge_config:keys()}, false},
        %% Who is told what comes in.
        {owner, fun process/1, undefined}
    ].

shared_memory_keys() ->
    [
        {enabled, boolean, true},
        {[path, shm_path], fun path/1, ?DEFAULT_PATH},
        {size, {integer, ?MIN_BYTES, ?MAX_BYTES}, 10485760},
        {max_size, {integer, size, ?MAX_BYTES}, fun(#{size := S}) -> min(8 * S, ?MAX_BYTES) end},
        {flush_interval, {integer, 0, ?MAX_MS}, 100},
        {mode, fun mode/1, 8#600},
        {recover, {one_of, [keep, clear]}, keep},
        {heartbeat_interval, {integer, 1, ?MAX_MS}, 100},
        {on_locked, fun on_locked/1, stop}
    ].

circuit_breaker_keys() ->
    [
        {enabled, boolean, true},
        {failure_threshold, {integer, 1, ?MANY}, 5},
        {success_threshold, {integer, 1, ?MANY}, 2},
        {timeout_ms, {integer, 1, ?MAX_MS}, 30000}
    ].

transport_keys() ->
    [
        {type, {one_of, [stdio, http, websocket, sse]}, undefined},
        {module, fun module/1, fun(#{type := Type}) -> erlmcp_shm_transport:module(Type) end},
        {priority, {integer, 0, 10}, 5},
        {health_check, boolean, true},
        {config, {by, fun transport_config/1}, #{}}
    ].

%% A transport of somebody else's checks its configuration by itself.
transport_config(#{module := erlmcp_shm_transport_erlmcp}) ->
    fun erlmcp_shm_transport_erlmcp:check/2;
transport_config(#{type := Type, module := Module}) ->
    case erlmcp_shm_transport:module(Type) of
        Module -> fun(Config, Path) -> erlmcp_shm_transport_config:check(Type, Config, Path) end;
        _ -> fun(Config) -> case is_map(Config) of true -> {ok, Config}; false -> error end end
    end.

%% @doc All there is, for those who compare what is said of it.
-spec tables() -> [{Name :: atom(), [erlmcp_shm_check:row()]}].
tables() ->
    [
        {claude_flow, claude_flow_keys()},
        {shared_memory, shared_memory_keys()},
        {circuit_breaker, circuit_breaker_keys()},
        {bridge, erlmcp_shm_bridge_config:keys()},
        {transports, transport_keys()}
        | erlmcp_shm_transport_config:tables()
    ].

%%% API

%% @doc The application's configuration. Without any, nothing is enabled.
-spec load() -> {ok, config()} | {error, bad_config()}.
load() ->
    case environment() of
        {ok, Map} -> claude_flow(Map);
        undefined -> claude_flow(#{enabled => false})
    end.

%% @doc The map of sys.config, complete.
-spec claude_flow(term()) -> {ok, config()} | {error, bad_config()}.
claude_flow(Map) ->
    case checked(Map, claude_flow_keys(), [], [claude_flow]) of
        %% There would be nothing to publish it in.
        {ok, #{enabled := true, bridge := #{enabled := true}, shared_memory := #{enabled := false}}} ->
            {error, {bad_config, [bridge], {needs, shared_memory}}};
        Checked ->
            Checked
    end.

%% @doc The exporter's start argument, complete.
-spec exporter(term()) -> {ok, exporter()} | {error, bad_config()}.
exporter(Map) ->
    checked(Map, shared_memory_keys(), [shared_memory], [shared_memory]).

%% @doc The value of `transports', complete.
-spec transports(term()) -> {ok, [transport()]} | {error, bad_config()}.
transports(List) ->
    erlmcp_shm_check:checked(fun() -> transports(List, [transports]) end).

checked(Map, Rows, Path, Whole) ->
    erlmcp_shm_check:checked(fun() -> erlmcp_shm_check:table(Map, Rows, Path, Whole) end).

%% @doc A file name as the bytes of an absolute path, so that it means the same file after a change
%% of directory.
-spec path(term()) -> {ok, binary()} | error.
path(Path) ->
    try bytes(Path) of
        Bytes when is_binary(Bytes), Bytes =/= <<>> ->
            case binary:match(Bytes, <<0>>) of
                nomatch -> {ok, filename:absname(Bytes)};
                _ -> error
            end;
        _ ->
            error
    catch
        error:badarg -> error
    end.

%%% Types

%% Two that listen at the same place, or read the same input, would be in each other's way.
transports(List, Path) when is_list(List), length(List) >= 0 ->
    {Checked, _} = lists:mapfoldl(fun(Element, {Index, Before}) ->
        Here = Path ++ [Index],
        #{type := Type, module := Module, config := Config} =
            Transport = erlmcp_shm_check:table(Element, transport_keys(), Here, Here),
        Key = {Type, Module, Config},
        case lists:member(Key, Before) of
            false -> {Transport, {Index + 1, [Key | Before]}};
            true -> erlmcp_shm_check:bad_config(Here, Element)
        end
    end, {0, []}, List),
    Checked;
transports(Other, Path) ->
    erlmcp_shm_check:bad_config(Path, Other).

%% What chmod takes, with reading and writing for the owner, whose next start must open the file, and no
%% writing for anybody else, who would be the author of what we publish.
mode(Mode) when is_integer(Mode), Mode band 8#622 =:= 8#600, Mode band (bnot 8#777) =:= 0 ->
    {ok, Mode};
mode(_) ->
    error.

on_locked(stop) -> {ok, stop};
on_locked({wait, Ms}) when is_integer(Ms), Ms >= 0, Ms =< ?MAX_MS -> {ok, {wait, Ms}};
on_locked(_) -> error.

module(Module) when is_atom(Module), Module =/= undefined -> {ok, Module};
module(_) -> error.

process(Process) when is_atom(Process); is_pid(Process) -> {ok, Process};
process(_) -> error.

%% A binary is the file's name as it is; a string is encoded as the node encodes file names.
bytes(Path) when is_binary(Path) -> Path;
bytes([_ | _] = Path) ->
    unicode:characters_to_binary(Path, unicode, file:native_name_encoding());
bytes(_) -> error.

%%% Environment

environment() ->
    case application:get_env(erlmcp_shm, claude_flow) of
        {ok, _} = Ours -> Ours;
        undefined -> erlmcp_environment()
    end.

%% What sys.config says of an application can be read once that is loaded, and not before. A node may
%% well be configured under `erlmcp' and have no such application; then one is loaded for the
%% moment, and unloaded again lest it stand in the way of the real one.
erlmcp_environment() ->
    case application:get_env(erlmcp, claude_flow) of
        {ok, _} = Set ->
            Set;
        undefined ->
            case application:load(erlmcp) of
                ok -> application:get_env(erlmcp, claude_flow);
                {error, {already_loaded, erlmcp}} -> undefined;
                {error, _} -> placeholder_environment()
            end
    end.

placeholder_environment() ->
    Placeholder = {application, erlmcp, [{description, "placeholder"}, {vsn, "0"}]},
    case application:load(Placeholder) of
        ok ->
            Found = application:get_env(erlmcp, claude_flow),
            _ = application:unload(erlmcp),
            Found;
        {error, _} ->
            %% Somebody else loaded it at this very moment.
            application:get_env(erlmcp, claude_flow)
    end.
