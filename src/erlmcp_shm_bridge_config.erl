%% @private
%% What may be said of the bridge, and of a server that it attaches to (see erlmcp_shm_check). What is said of the bridge
%% goes for every server that says nothing else.
-module(erlmcp_shm_bridge_config).

-export([keys/0, bridge/1, server/2]).

-export_type([bridge/0, server/0]).

-type bridge() :: #{
    enabled := boolean(),
    servers := all | [server()],
    reconcile_interval := pos_integer(),
    on_down := keep | withdraw,
    kinds := [erlmcp_shm_erlmcp:kind()],
    except := [binary()],
    evaluate_timeout := pos_integer()
}.

-type server() :: #{
    server := erlmcp_shm_erlmcp:target(),
    name := binary(),
    prefix := #{erlmcp_shm_erlmcp:kind() => binary()},
    reconcile_interval := pos_integer(),
    on_down := keep | withdraw,
    kinds := [erlmcp_shm_erlmcp:kind()],
    except := [binary()],
    evaluate_timeout := pos_integer()
}.

%% The longest timer there is, and what stays below it when it is taken ten times.
-define(MAX_MS, 16#FFFFFFFF).
-define(MAX_INTERVAL_MS, (?MAX_MS div 10)).
-define(KINDS, [resource, tool, prompt]).

-spec keys() -> [erlmcp_shm_check:row()].
keys() ->
    [{enabled, boolean, true}] ++ common(#{}) ++ [{servers, {by, fun servers/1}, all}].

common(Defaults) ->
    [
        {reconcile_interval, {integer, 1, ?MAX_INTERVAL_MS}, maps:get(reconcile_interval, Defaults, 30000)},
        %% What becomes of its entries when a server dies.
        {on_down, {one_of, [keep, withdraw]}, maps:get(on_down, Defaults, keep)},
        {kinds, fun kinds/1, maps:get(kinds, Defaults, ?KINDS)},
        %% Names, or their beginnings with a `*' behind, that are not published.
        {except, fun texts/1, maps:get(except, Defaults, [])},
        %% How long the function of a resource may take.
        {evaluate_timeout, {integer, 1, ?MAX_MS}, maps:get(evaluate_timeout, Defaults, 5000)}
    ].

server_keys(Defaults) ->
    [
        {server, fun target/1, undefined},
        %% A process has no name that outlives it, so it has to be given one.
        {name, fun name/1, fun(#{server := Server}) -> Server end},
        {prefix, fun prefix/1, <<>>}
    ] ++ common(Defaults).

%% @doc The start argument, complete.
-spec bridge(term()) -> {ok, bridge()} | {error, erlmcp_shm_check:bad_config()}.
bridge(Map) ->
    erlmcp_shm_check:checked(fun() -> erlmcp_shm_check:table(Map, keys(), [bridge], [bridge]) end).

%% @doc A server's options, complete.
-spec server(term(), bridge()) -> {ok, server()} | {error, erlmcp_shm_check:bad_config()}.
server(Map, Bridge) ->
    erlmcp_shm_check:checked(fun() -> erlmcp_shm_check:table(Map, server_keys(Bridge), [bridge], [bridge]) end).

%%% Types

servers(Bridge) ->
    fun
        (all, _Path) -> all;
        (Servers, Path) when is_list(Servers), length(Servers) >= 0 -> servers(Servers, 0, [], Bridge, Path);
        (Other, Path) -> erlmcp_shm_check:bad_config(Path, Other)
    end.

%% Two of one name would take each other's entries for their own.
servers([], _, _, _, _) ->
    [];
servers([Server | Others], Index, Names, Bridge, Path) ->
    Here = Path ++ [Index],
    #{name := Name} = Checked = erlmcp_shm_check:table(Server, server_keys(Bridge), Here, Here),
    case lists:member(Name, Names) of
        true -> erlmcp_shm_check:bad_config(Here ++ [name], Name);
        false -> [Checked | servers(Others, Index + 1, [Name | Names], Bridge, Path)]
    end.

target(Pid) when is_pid(Pid), node(Pid) =:= node() -> {ok, Pid};
target(Id) when is_atom(Id), Id =/= undefined; is_binary(Id), Id =/= <<>> -> {ok, Id};
target(_) -> error.

name(undefined) -> error;
name(Name) when is_atom(Name) -> {ok, atom_to_binary(Name)};
name(Name) -> text(Name).

text(Text) ->
    case possibly_empty(Text) of
        {ok, <<>>} -> error;
        Other -> Other
    end.

possibly_empty(Text) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> {ok, Binary};
        _ -> error
    catch
        error:badarg -> error
    end.

%% The same for all, or for each its own: what goes before a tool's name does not always go before a URI.
prefix(#{} = Prefixes) ->
    case maps:keys(maps:without(?KINDS, Prefixes)) of
        [] ->
            Checked = [{Kind, possibly_empty(maps:get(Kind, Prefixes, <<>>))} || Kind <- ?KINDS],
            case [Kind || {Kind, error} <- Checked] of
                [] -> {ok, maps:from_list([{Kind, Text} || {Kind, {ok, Text}} <- Checked])};
                _ -> error
            end;
        _ ->
            error
    end;
prefix(Text) ->
    case possibly_empty(Text) of
        {ok, Prefix} -> {ok, maps:from_list([{Kind, Prefix} || Kind <- ?KINDS])};
        error -> error
    end.

kinds(Kinds) when is_list(Kinds), length(Kinds) >= 0 ->
    case Kinds -- ?KINDS of
        [] -> {ok, Kinds};
        _ -> error
    end;
kinds(_) ->
    error.

texts(Texts) when is_list(Texts), length(Texts) >= 0 ->
    Checked = [text(Text) || Text <- Texts],
    case lists:member(error, Checked) of
        true -> error;
        false -> {ok, [Text || {ok, Text} <- Checked]}
    end;
texts(_) ->
    error.
