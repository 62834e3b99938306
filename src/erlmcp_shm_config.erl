%% @private
%% What may be configured, of which type, with which default: one table per map. Every map comes
%% out complete and checked, so nobody downstream asks for a default or doubts a value.
%%
%% A table row is `{Key, Type, Default}', in the order of checking; a default may be a function of
%% the rows before it. Paths in `{bad_config, Path, Value}' start at the `claude_flow' map, also for the
%% exporter's own argument: what is said of `size' is the same wherever it was written.
-module(erlmcp_shm_config).

-export([load/0, claude_flow/1, exporter/1, path/1]).

-export_type([config/0, exporter/0, bad_config/0]).

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

-type config() :: #{enabled := boolean(), shared_memory := exporter(), atom() => term()}.

-type bad_config() :: {bad_config, Path :: list(), Value :: term()}.

-define(DEFAULT_PATH, <<"/dev/shm/erlmcp_export.bin">>).
%% What the file format can hold; a rollover has two generations at once.
-define(MIN_BYTES, 8192).
-define(MAX_BYTES, (1 bsl 46)).
%% The longest timer there is.
-define(MAX_MS, 16#FFFFFFFF).

%%% Tables

claude_flow_keys() ->
    [
        {enabled, boolean, true},
        {shared_memory, {section, shared_memory_keys()}, false},
        {transports, any, []},
        {auto_failover, any, true},
        {multiplexing, any, false},
        {health_check_interval, any, 30000},
        {circuit_breaker, any, #{}}
    ].

shared_memory_keys() ->
    [
        {enabled, boolean, true},
        {path, path, ?DEFAULT_PATH},
        {size, {integer, ?MIN_BYTES, ?MAX_BYTES}, 10485760},
        {max_size, {integer, size, ?MAX_BYTES}, fun(#{size := S}) -> min(8 * S, ?MAX_BYTES) end},
        {flush_interval, {integer, 0, ?MAX_MS}, 100},
        {mode, mode, 8#600},
        {recover, {one_of, [keep, clear]}, keep},
        {heartbeat_interval, {integer, 1, ?MAX_MS}, 100},
        {on_locked, on_locked, stop}
    ].

%% The names a key goes by: ours, then those of the specification.
names(path) -> [path, shm_path];
names(Key) -> [Key].

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
    checked(fun() -> table(Map, claude_flow_keys(), [], [claude_flow]) end).

%% @doc The exporter's start argument, complete.
-spec exporter(term()) -> {ok, exporter()} | {error, bad_config()}.
exporter(Map) ->
    checked(fun() -> table(Map, shared_memory_keys(), [shared_memory], [shared_memory]) end).

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

%%% Checking

checked(Fun) ->
    try
        {ok, Fun()}
    catch
        throw:{bad_config, _, _} = BadConfig -> {error, BadConfig}
    end.

%% `Whole' is how the map itself is called where it is no map.
table(Map, Rows, Path, _Whole) when is_map(Map) ->
    Known = lists:append([names(Key) || {Key, _, _} <- Rows]),
    case lists:sort(maps:to_list(maps:without(Known, Map))) of
        [] -> lists:foldl(fun(Row, Done) -> row(Row, Map, Path, Done) end, #{}, Rows);
        [{Unknown, Value} | _] -> bad_config(Path ++ [Unknown], Value)
    end;
table(Other, _Rows, _Path, Whole) ->
    bad_config(Whole, Other).

row({Key, Type, Default}, Map, Path, Done) ->
    Value =
        case [Name || Name <- names(Key), is_map_key(Name, Map)] of
            [] -> check(Type, default(Default, Done), Path ++ [Key], Done);
            [Name] -> check(Type, maps:get(Name, Map), Path ++ [Name], Done);
            %% Two names for one thing: which is meant?
            [_, Twice | _] -> bad_config(Path ++ [Twice], maps:get(Twice, Map))
        end,
    Done#{Key => Value}.

default(Fun, Done) when is_function(Fun, 1) -> Fun(Done);
default(Value, _Done) -> Value.

%% `{integer, Min, Max}': Min may be the name of an earlier row. `{section, Rows}': a map, or `true' for all
%% its defaults, or `false'. A mode is what chmod takes, with reading and writing for the owner, whose next
%% start must open the file, and no writing for anybody else, who would be the author of what we publish.
check({section, Rows}, Enabled, Path, _) when is_boolean(Enabled) ->
    table(#{enabled => Enabled}, Rows, Path, Path);
check({section, Rows}, Map, Path, _) ->
    table(Map, Rows, Path, Path);
check({integer, Min, Max}, Value, Path, Done) when is_atom(Min) ->
    check({integer, maps:get(Min, Done), Max}, Value, Path, Done);
check({integer, Min, Max}, Value, _, _) when is_integer(Value), Value >= Min, Value =< Max ->
    Value;
check({one_of, Values}, Value, Path, _) ->
    case lists:member(Value, Values) of
        true -> Value;
        false -> bad_config(Path, Value)
    end;
check(boolean, Value, _, _) when is_boolean(Value) ->
    Value;
check(mode, Value, _, _) when
    is_integer(Value), Value band 8#622 =:= 8#600, Value band (bnot 8#777) =:= 0
->
    Value;
check(on_locked, stop, _, _) ->
    stop;
check(on_locked, {wait, Ms}, _, _) when is_integer(Ms), Ms >= 0, Ms =< ?MAX_MS ->
    {wait, Ms};
check(path, Value, Path, _) ->
    case path(Value) of
        {ok, Absolute} -> Absolute;
        error -> bad_config(Path, Value)
    end;
check(any, Value, _, _) ->
    Value;
check(_Type, Value, Path, _) ->
    bad_config(Path, Value).

-spec bad_config(list(), term()) -> no_return().
bad_config(Path, Value) ->
    throw({bad_config, Path, Value}).

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
