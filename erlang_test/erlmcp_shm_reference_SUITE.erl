%% What is said of the configuration, in docs/configuration.md and ops/sys.config, is what the code's own tables say.
-module(erlmcp_shm_reference_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(C, erlmcp_shm_config).

all() ->
    [reference, every_key_once, shown_defaults, starts].

%%% docs/configuration.md

%% Every key of every table with its type and default, in whatever order.
reference(_Config) ->
    Tables = maps:from_list(?C:tables()),
    Documented = documented(read("docs/configuration.md")),
    ?assertEqual(lists:sort(maps:keys(Tables)), lists:sort(maps:keys(Documented))),
    [reference(Name, maps:get(Name, Tables), maps:get(Name, Documented)) || Name <- maps:keys(Tables)].

reference(Name, Rows, Documented) ->
    Keys = [{first(Key), Row} || {Key, _, _} = Row <- Rows],
    %% A table that says less says it by reference to the first; what differs must be said.
    Wanted = [Key || {Key, Row} <- Keys, not same_elsewhere(Name, Row)],
    Told = [Key || {Key, _, _} <- Documented],
    ?assertEqual({Name, []}, {Name, Wanted -- Told}),
    ?assertEqual({Name, []}, {Name, Told -- [url | [Key || {Key, _} <- Keys]]}),
    Defaults = defaults(Name),
    [
        begin
            {_, {_, Type, Default}} = lists:keyfind(Key, 1, Keys),
            type_matches(Name, Key, Type, TypeText),
            default_matches(Name, Key, Default, Defaults, DefaultText)
        end
     || {Key, TypeText, DefaultText} <- Documented, Key =/= url
    ].

same_elsewhere(Name, Row) when Name =:= http; Name =:= sse; Name =:= stdio ->
    lists:member(printed(Row), [printed(Other) || Other <- proplists:get_value(websocket, ?C:tables())]);
same_elsewhere(_, _) ->
    false.

%% Funs are compared by name.
printed(Row) ->
    io_lib:format("~p", [Row]).

type_matches(_, _, boolean, Text) ->
    ?assertEqual(<<"boolean">>, Text);
type_matches(_, _, {one_of, Values}, Text) ->
    ?assertEqual(iolist_to_binary(lists:join(", ", [io_lib:format("`~p`", [Value]) || Value <- Values])), Text);
type_matches(_, _, {integer, Min, Max}, Text) when is_atom(Min) ->
    ?assertEqual(iolist_to_binary(io_lib:format("`~p` to ~p", [Min, Max])), Text);
type_matches(_, _, {integer, Min, Max}, Text) ->
    ?assertEqual(iolist_to_binary(io_lib:format("~p to ~p", [Min, Max])), Text);
type_matches(Name, Key, _, Text) ->
    ?assertNotEqual({Name, Key, <<>>}, {Name, Key, Text}).

%% What stands there is the value, and perhaps how one comes by it.
default_matches(Name, Key, Default, Defaults, Text) ->
    Expected =
        case {Key, Default, Defaults} of
            {owner, undefined, _} -> <<"`undefined`">>;
            {_, undefined, _} when Key =:= type; Key =:= certfile; Key =:= keyfile -> <<"required">>;
            {_, undefined, _} -> <<"none">>;
            {module, _, _} -> <<"by `type`">>;
            {mode, _, _} -> iolist_to_binary(io_lib:format("`8#~.8b`", [Default]));
            {_, Fun, #{Key := Value}} when is_function(Fun) -> quoted(Value);
            _ -> quoted(Default)
        end,
    ?assertEqual({Name, Key, Expected}, {Name, Key, binary:part(Text, 0, min(byte_size(Text), byte_size(Expected)))}),
    [
        ?assert(string:find(Text, "(") =/= nomatch, {Name, Key, Text})
     || byte_size(Text) > byte_size(Expected)
    ].

quoted(Value) ->
    iolist_to_binary(io_lib:format("`~p`", [Value])).

%% With every default filled in.
defaults(shared_memory) ->
    {ok, Map} = ?C:exporter(#{}),
    Map;
defaults(tls) ->
    {ok, [#{config := #{tls := Tls}}]} = ?C:transports([#{type => http, config => #{tls => #{certfile => "c", keyfile => "k"}}}]),
    Tls;
defaults(_) ->
    #{}.

%% By the comment above a table: key, type and default of each row.
documented(Text) ->
    {match, Found} = re:run(Text, "<!-- (\\w+) -->\\n((?:\\|.*\\n)+)", [global, {capture, all_but_first, binary}]),
    maps:from_list([
        {binary_to_atom(Name), [row(Line) || Line <- tl(tl(binary:split(Table, <<"\n">>, [global, trim])))]}
     || [Name, Table] <- Found, Name =/= <<"client">>
    ]).

row(Line) ->
    [<<>>, Key, Type, Default | _] = [string:trim(Cell) || Cell <- binary:split(Line, <<"|">>, [global])],
    {binary_to_atom(binary:replace(Key, <<"`">>, <<>>, [global])), Type, Default}.

%%% ops/sys.config

%% Each key is there where it belongs: of all that can be said of a transport, under one of them at least.
every_key_once(_Config) ->
    Shown = [Path || {Path, _, _} <- shown()],
    ?assertEqual([], Shown -- lists:usort(Shown)),
    Tables = maps:from_list(?C:tables()),
    Keys = fun(Table) -> [first(Key) || {Key, _, _} <- maps:get(Table, Tables)] end,
    Below = fun(Prefix) -> lists:usort([Key || Path <- Shown, [Key] <- [below(Prefix, Path)]]) end,
    ?assertEqual(lists:sort(Keys(claude_flow)), Below([])),
    ?assertEqual(lists:sort(Keys(shared_memory)), Below([shared_memory])),
    ?assertEqual(lists:sort(Keys(circuit_breaker)), Below([circuit_breaker])),
    ?assertEqual(lists:sort(Keys(bridge)), Below([bridge])),
    ?assertEqual(lists:sort(Keys(transports)), Below([transports, websocket])),
    ?assertEqual(lists:sort([url | Keys(websocket)]), Below([transports, websocket, config])),
    ?assertEqual(lists:sort(Keys(tls)), Below([transports, websocket, config, tls])),
    %% Of the others, what differs; and nothing that they have not.
    [
        begin
            Differ = [first(Key) || {Key, _, _} = Row <- maps:get(Type, Tables), not same_elsewhere(Type, Row)],
            ?assertEqual({Type, []}, {Type, Differ -- Below([transports, Type, config])}),
            ?assertEqual({Type, []}, {Type, Below([transports, Type, config]) -- Keys(Type)})
        end
     || Type <- [http, sse, stdio]
    ].

below(Prefix, Path) ->
    case lists:prefix(Prefix, Path) of
        true -> lists:nthtail(length(Prefix), Path);
        false -> none
    end.

%% What is commented out is what holds where it is not said.
shown_defaults(_Config) ->
    {ok, #{shared_memory := _} = Flow} = ?C:claude_flow(#{shared_memory => true}),
    Types = [websocket, http, sse, stdio],
    {ok, Transports} = ?C:transports([#{type => Type} || Type <- Types]),
    Whole = Flow#{transports := maps:from_list(lists:zip(Types, Transports))},
    Examples = [[config, Key] || Key <- [url, auth_token, handler]] ++ [[config, tls, Key] || {Key, _, _} <- proplists:get_value(tls, ?C:tables())],
    [
        case Path of
            [transports, _, type] -> ok;
            %% A choice of the specification's, not a default.
            [transports, _, Key] when Key =:= priority -> ok;
            [transports, stdio, health_check] -> ok;
            [transports, _ | Example] ->
                lists:member(Example, Examples) orelse ?assertEqual({Path, value(Path, Whole)}, {Path, Value});
            _ ->
                ?assertEqual({Path, value(Path, Whole)}, {Path, Value})
        end
     || {Path, commented, Value} <- shown(), not is_atom(Value) orelse Value =/= map
    ],
    ok.

value(Path, Map) ->
    lists:foldl(fun maps:get/2, Map, Path).

%% Path, whether it is commented out, and value, of each line that sets a key. A list's elements go by their `type',
%% which is their first key.
shown() ->
    Lines = binary:split(read("ops/sys.config"), <<"\n">>, [global]),
    {[], _, Found} = lists:foldl(fun shown/2, {[], live, []}, Lines),
    lists:reverse(Found).

shown(Line, {Open, _, Found}) ->
    Text = string:trim(Line),
    {Commented, Code} =
        case Text of
            <<"%%", _/binary>> -> {comment, <<>>};
            <<"%", Rest/binary>> -> {commented, Rest};
            _ -> {live, Text}
        end,
    case re:run(Code, "^(\\w+) => (.*?),?$", [{capture, all_but_first, binary}]) of
        {match, [<<"type">>, Type]} ->
            [element | Outer] = Open,
            Named = [binary_to_atom(Type) | Outer],
            {Named, live, [{lists:reverse([type | Named]), Commented, map} | Found]};
        {match, [Key, Begin]} when Begin =:= <<"#{">>; Begin =:= <<"[">> ->
            Path = [binary_to_atom(Key) | Open],
            {Path, live, [{lists:reverse(Path), Commented, map} | Found]};
        {match, [Key, Value]} ->
            {Open, live, [{lists:reverse([binary_to_atom(Key) | Open]), Commented, term(Value)} | Found]};
        nomatch ->
            {opened(Code, Open), live, Found}
    end.

opened(<<"#{">>, Open) -> [element | Open];
opened(<<"}", _/binary>>, [_ | Outer]) -> Outer;
opened(<<"]", _/binary>>, [_ | Outer]) -> Outer;
opened(_, Open) -> Open.

%% As the checked configuration has it.
term(Text) ->
    {ok, Tokens, _} = erl_scan:string(binary_to_list(<<Text/binary, ".">>)),
    case erl_parse:parse_term(Tokens) of
        {ok, "/dev/shm" ++ _ = Path} -> list_to_binary(Path);
        {ok, Term} -> Term
    end.

%% As it stands there, it is accepted.
starts(_Config) ->
    {ok, File} = erlmcp_shm_test:project_file("ops/sys.config"),
    {ok, [[{erlmcp_shm, [{claude_flow, Map}]}]]} = file:consult(File),
    {ok, #{transports := [Ws, Http]}} = ?C:claude_flow(Map),
    ?assertMatch(#{type := websocket, config := #{host := "localhost", port := 8080}}, Ws),
    ?assertMatch(#{type := http, config := #{host := "localhost", port := 8080}}, Http).

read(Relative) ->
    {ok, File} = erlmcp_shm_test:project_file(Relative),
    {ok, Text} = file:read_file(File),
    Text.

first([Key | _]) -> Key;
first(Key) -> Key.
