%% @private
%% Checks a map against a table of what may be in it, and completes it with defaults.
%%
%% A row of a table is `{Key, Type, Default}', in the order of checking. A default may be a function of the rows
%% before it, and is checked like any other value: one that is no value of its type makes the key
%% mandatory. What does not pass is thrown as `{bad_config, Path, Value}', and caught by `checked/1'.
-module(erlmcp_shm_check).

-export([checked/1, table/4, bad_config/2]).

-export_type([row/0, type/0, bad_config/0]).

-type bad_config() :: {bad_config, Path :: list(), Value :: term()}.

-type row() :: {Key :: atom() | [atom(), ...], type(), Default :: term()}.
%% A list of names is one key: it goes by any of them, and comes out under the first.

-type type() ::
    any
    | boolean
    %% `Min' may be the name of an earlier row.
    | {integer, Min :: integer() | atom(), Max :: integer()}
    | {one_of, [term()]}
    | {optional, type()}
    | {map, [row()]}
    %% A map with a key `enabled', or `true' for all its defaults, or `false'.
    | {section, [row()]}
    %% The type as a function of the rows before.
    | {by, fun((map()) -> type())}
    | fun((term()) -> {ok, term()} | error)
    %% With the value's path; throws.
    | fun((term(), Path :: list()) -> term()).

-spec checked(fun(() -> T)) -> {ok, T} | {error, bad_config()}.
checked(Fun) ->
    try
        {ok, Fun()}
    catch
        throw:{bad_config, _, _} = BadConfig -> {error, BadConfig}
    end.

%% `Whole' is how the map itself is called where it is no map.
-spec table(term(), [row()], Path :: list(), Whole :: list()) -> map().
table(Map, Rows, Path, _Whole) when is_map(Map) ->
    Known = lists:append([names(Names) || {Names, _, _} <- Rows]),
    case lists:sort(maps:to_list(maps:without(Known, Map))) of
        [] -> lists:foldl(fun(Row, Done) -> row(Row, Map, Path, Done) end, #{}, Rows);
        [{Unknown, Value} | _] -> bad_config(Path ++ [Unknown], Value)
    end;
table(Other, _Rows, _Path, Whole) ->
    bad_config(Whole, Other).

names([_ | _] = Names) -> Names;
names(Name) -> [Name].

row({Names, Type, Default}, Map, Path, Done) ->
    [Key | _] = All = names(Names),
    Value =
        case [Name || Name <- All, is_map_key(Name, Map)] of
            [] -> check(Type, default(Default, Done), Path ++ [Key], Done);
            [Name] -> check(Type, maps:get(Name, Map), Path ++ [Name], Done);
            %% Two names for one thing: which is meant?
            [_, Twice | _] -> bad_config(Path ++ [Twice], maps:get(Twice, Map))
        end,
    Done#{Key => Value}.

default(Fun, Done) when is_function(Fun, 1) -> Fun(Done);
default(Value, _Done) -> Value.

check(any, Value, _, _) ->
    Value;
check(boolean, Value, _, _) when is_boolean(Value) ->
    Value;
check({integer, Min, Max}, Value, Path, Done) when is_atom(Min) ->
    check({integer, maps:get(Min, Done), Max}, Value, Path, Done);
check({integer, Min, Max}, Value, _, _) when is_integer(Value), Value >= Min, Value =< Max ->
    Value;
check({one_of, Values}, Value, Path, _) ->
    case lists:member(Value, Values) of
        true -> Value;
        false -> bad_config(Path, Value)
    end;
check({optional, _}, undefined, _, _) ->
    undefined;
check({optional, Type}, Value, Path, Done) ->
    check(Type, Value, Path, Done);
check({map, Rows}, Map, Path, _) ->
    table(Map, Rows, Path, Path);
check({section, Rows}, Enabled, Path, _) when is_boolean(Enabled) ->
    table(#{enabled => Enabled}, Rows, Path, Path);
check({section, Rows}, Map, Path, _) ->
    table(Map, Rows, Path, Path);
check({by, Fun}, Value, Path, Done) ->
    check(Fun(Done), Value, Path, Done);
check(Fun, Value, Path, _) when is_function(Fun, 1) ->
    case Fun(Value) of
        {ok, Checked} -> Checked;
        error -> bad_config(Path, Value)
    end;
check(Fun, Value, Path, _) when is_function(Fun, 2) ->
    Fun(Value, Path);
check(_Type, Value, Path, _) ->
    bad_config(Path, Value).

-spec bad_config(list(), term()) -> no_return().
bad_config(Path, Value) ->
    throw({bad_config, Path, Value}).
