%% @private
%% Whether a JSON value is what a JSON Schema describes: draft 2020-12, or draft 7 where `$schema' says so. Formats say nothing,
%% as is their default there.
%%
%% The value comes from a stranger and the schema from anybody, so this must neither crash the node nor hold it up. It is
%% plain Erlang for that: it runs in the process of a call, whose deadline ends it wherever it is, it needs heap
%% where native code would need a stack that a chain of `$ref' overflows, and `re' stops counting at a limit. Nothing is
%% fetched: a `$ref' that leads out of the schema makes it unusable, as does whatever else cannot be understood.
-module(erlmcp_shm_schema).

-export([check/2]).

-export_type([fault/0]).

-type fault() :: {Pointer :: binary(), What :: binary()}.
%% Where in the value (a JSON Pointer), and what is wrong there.

-record(env, {
    %% Of the schema resource that references are relative to, and of all of it.
    root :: map() | boolean(),
    whole :: map() | boolean(),
    %% Until draft 7, what stands beside a `$ref' does not count.
    old :: boolean(),
    %% Whether it matters what was evaluated.
    track :: boolean(),
    %% References followed since the value was last descended into.
    refs = 0 :: non_neg_integer()
}).

-define(MAX_REFS, 100).
-define(MATCH_LIMIT, 1000000).

%% Those that look at what the others have evaluated come last.
-define(KEYWORDS, [
    <<"$ref">>, <<"$dynamicRef">>, <<"type">>, <<"enum">>, <<"const">>,
    <<"multipleOf">>, <<"maximum">>, <<"exclusiveMaximum">>, <<"minimum">>, <<"exclusiveMinimum">>,
    <<"maxLength">>, <<"minLength">>, <<"pattern">>,
    <<"maxItems">>, <<"minItems">>, <<"uniqueItems">>, <<"prefixItems">>, <<"items">>, <<"contains">>,
    <<"maxProperties">>, <<"minProperties">>, <<"required">>, <<"dependentRequired">>, <<"dependentSchemas">>, <<"dependencies">>,
    <<"propertyNames">>, <<"properties">>, <<"patternProperties">>, <<"additionalProperties">>,
    <<"allOf">>, <<"anyOf">>, <<"oneOf">>, <<"not">>, <<"if">>,
    <<"unevaluatedItems">>, <<"unevaluatedProperties">>
]).

%% @doc Both as they are decoded from JSON.
-spec check(Schema :: term(), Value :: term()) -> ok | {error, [fault(), ...]} | {unusable, Why :: term()}.
check(Schema, Value) ->
    try valid(Schema, Value, [], #env{root = Schema, whole = Schema, old = is_old(Schema), track = tracks(Schema)}) of
        {[], _} -> ok;
        {Faults, _} -> {error, [{pointer(At), What} || {At, What} <- Faults]}
    catch
        throw:{unusable, _} = Unusable -> Unusable;
        %% A keyword with a value that it cannot have.
        error:Reason when Reason =/= system_limit -> {unusable, Reason}
    end.

is_old(#{<<"$schema">> := Dialect}) ->
    case binary:match(Dialect, <<"json-schema.org/">>) of
        nomatch -> throw({unusable, {dialect, Dialect}});
        _ -> binary:match(Dialect, [<<"draft-07">>, <<"draft-06">>, <<"draft-04">>]) =/= nomatch
    end;
is_old(_) ->
    false.

tracks(#{} = Map) ->
    is_map_key(<<"unevaluatedItems">>, Map) orelse is_map_key(<<"unevaluatedProperties">>, Map) orelse tracks(maps:values(Map));
tracks([First | Others]) ->
    tracks(First) orelse tracks(Others);
tracks(_) ->
    false.

pointer(At) ->
    iolist_to_binary([[$/, step(Step)] || Step <- lists:reverse(At)]).

step(Index) when is_integer(Index) -> integer_to_binary(Index);
step(Key) -> binary:replace(binary:replace(Key, <<"~">>, <<"~0">>, [global]), <<"/">>, <<"~1">>, [global]).

%%% A schema: its faults, and what it evaluated, the keys of an object or the indexes of an array

valid(true, _, _, _) ->
    {[], #{}};
valid(false, _, At, _) ->
    {[{At, <<"is not allowed">>}], #{}};
valid(#{} = Schema, Value, At, Env0) ->
    Env = within(Schema, Env0),
    Present =
        case Schema of
            #{<<"$ref">> := _} when Env#env.old -> [<<"$ref">>];
            _ -> [Keyword || Keyword <- ?KEYWORDS, is_map_key(Keyword, Schema)]
        end,
    lists:foldl(
        fun(Keyword, {Faults, Seen}) ->
            {More, Evaluated} = keyword(Keyword, map_get(Keyword, Schema), Value, {Schema, At, Env, Seen}),
            {Faults ++ More, merged(Env, Seen, Evaluated)}
        end,
        {[], #{}},
        Present
    );
valid(Other, _, _, _) ->
    throw({unusable, {no_schema, Other}}).

within(#{<<"$id">> := <<"#", _/binary>>}, Env) -> Env;
within(#{<<"$id">> := _} = Schema, #env{old = false} = Env) -> Env#env{root = Schema};
within(#{<<"$id">> := _} = Schema, Env) when not is_map_key(<<"$ref">>, Schema) -> Env#env{root = Schema};
within(_, Env) -> Env.

merged(#env{track = false}, _, _) -> #{};
merged(_, Seen, Evaluated) -> maps:merge(Seen, Evaluated).

fault(false, _, _) -> {[], #{}};
fault(true, At, What) -> {[{At, iolist_to_binary(What)}], #{}}.

%%% Keywords. One that is not for this type of value says nothing

keyword(<<"$ref">>, Ref, Value, {_, At, Env, _}) ->
    follow(Ref, Value, At, Env);
%% That is for schemas of schemas.
keyword(<<"$dynamicRef">>, Ref, _, _) ->
    throw({unusable, {dynamic_ref, Ref}});
keyword(<<"type">>, Types, Value, {_, At, _, _}) when is_list(Types) ->
    fault(not lists:any(fun(Type) -> is(Type, Value) end, Types), At, ["must be one of ", lists:join(", ", Types)]);
keyword(<<"type">>, Type, Value, {_, At, _, _}) ->
    fault(not is(Type, Value), At, ["must be of type ", Type]);
keyword(<<"enum">>, Values, Value, {_, At, _, _}) ->
    fault(not lists:any(fun(One) -> One == Value end, Values), At, ["must be one of ", shown(Values)]);
keyword(<<"const">>, Const, Value, {_, At, _, _}) ->
    fault(not (Const == Value), At, ["must be ", shown(Const)]);
keyword(<<"multipleOf">>, Of, Value, {_, At, _, _}) when is_number(Value), is_number(Of), Of > 0 ->
    fault(not is_multiple(Value, Of), At, ["must be a multiple of ", shown(Of)]);
keyword(<<"maximum">>, Max, Value, {Schema, At, _, _}) when is_number(Value), is_number(Max) ->
    Strict = maps:get(<<"exclusiveMaximum">>, Schema, false) =:= true,
    fault(Value > Max orelse Strict andalso Value == Max, At, ["must be at most ", shown(Max)]);
keyword(<<"minimum">>, Min, Value, {Schema, At, _, _}) when is_number(Value), is_number(Min) ->
    Strict = maps:get(<<"exclusiveMinimum">>, Schema, false) =:= true,
    fault(Value < Min orelse Strict andalso Value == Min, At, ["must be at least ", shown(Min)]);
keyword(<<"exclusiveMaximum">>, Max, Value, {_, At, _, _}) when is_number(Value), is_number(Max) ->
    fault(Value >= Max, At, ["must be less than ", shown(Max)]);
keyword(<<"exclusiveMinimum">>, Min, Value, {_, At, _, _}) when is_number(Value), is_number(Min) ->
    fault(Value =< Min, At, ["must be more than ", shown(Min)]);
keyword(<<"maxLength">>, Max, Value, {_, At, _, _}) when is_binary(Value), is_number(Max) ->
    fault(characters(Value) > Max, At, ["must have at most ", shown(Max), " characters"]);
keyword(<<"minLength">>, Min, Value, {_, At, _, _}) when is_binary(Value), is_number(Min) ->
    fault(characters(Value) < Min, At, ["must have at least ", shown(Min), " characters"]);
keyword(<<"pattern">>, Pattern, Value, {_, At, _, _}) when is_binary(Value) ->
    fault(not matches(Pattern, Value), At, ["must match the pattern ", Pattern]);
keyword(<<"maxItems">>, Max, Value, {_, At, _, _}) when is_list(Value), is_number(Max) ->
    fault(length(Value) > Max, At, ["must have at most ", shown(Max), " items"]);
keyword(<<"minItems">>, Min, Value, {_, At, _, _}) when is_list(Value), is_number(Min) ->
    fault(length(Value) < Min, At, ["must have at least ", shown(Min), " items"]);
keyword(<<"uniqueItems">>, true, Value, {_, At, _, _}) when is_list(Value) ->
    fault(length(lists:usort(Value)) =/= length(Value), At, "must not have the same item twice");
keyword(<<"prefixItems">>, Schemas, Value, {_, At, Env, _}) when is_list(Value) ->
    prefix(Schemas, Value, At, Env);
keyword(<<"items">>, Schemas, Value, {Schema, At, Env, _}) when is_list(Value), is_list(Schemas) ->
    {First, Seen} = prefix(Schemas, Value, At, Env),
    {Rest, More} = rest(maps:get(<<"additionalItems">>, Schema, true), length(Schemas), Value, At, Env),
    case is_map_key(<<"additionalItems">>, Schema) of
        true -> {First ++ Rest, maps:merge(Seen, More)};
        false -> {First, Seen}
    end;
keyword(<<"items">>, Items, Value, {Schema, At, Env, _}) when is_list(Value) ->
    rest(Items, length(maps:get(<<"prefixItems">>, Schema, [])), Value, At, Env);
keyword(<<"contains">>, Contained, Value, {Schema, At, Env, _}) when is_list(Value) ->
    Found = [Index || {Index, Item} <- indexed(Value), holds(Contained, Item, [Index | At], below(Env))],
    Min = maps:get(<<"minContains">>, Schema, 1),
    Max = maps:get(<<"maxContains">>, Schema, infinity),
    N = length(Found),
    {Few, _} = fault(N < Min, At, ["must contain at least ", shown(Min), " of the items asked for"]),
    {Many, _} = fault(Max =/= infinity andalso N > Max, At, ["must contain fewer of the items asked for"]),
    {Few ++ Many, evaluated(Found, Env)};
keyword(<<"maxProperties">>, Max, Value, {_, At, _, _}) when is_map(Value), is_number(Max) ->
    fault(map_size(Value) > Max, At, ["must have at most ", shown(Max), " properties"]);
keyword(<<"minProperties">>, Min, Value, {_, At, _, _}) when is_map(Value), is_number(Min) ->
    fault(map_size(Value) < Min, At, ["must have at least ", shown(Min), " properties"]);
keyword(<<"required">>, Keys, Value, {_, At, _, _}) when is_map(Value), is_list(Keys) ->
    {[{At, <<"lacks the required property ", (shown(Key))/binary>>} || Key <- Keys, not is_map_key(Key, Value)], #{}};
keyword(<<"dependentRequired">>, Dependent, Value, Context) when is_map(Value) ->
    depends(Dependent, Value, Context);
keyword(<<"dependentSchemas">>, Dependent, Value, Context) when is_map(Value) ->
    depends(Dependent, Value, Context);
keyword(<<"dependencies">>, Dependent, Value, Context) when is_map(Value) ->
    depends(Dependent, Value, Context);
keyword(<<"propertyNames">>, Names, Value, {_, At, Env, _}) when is_map(Value) ->
    Wrong = [Key || Key <- maps:keys(Value), not holds(Names, Key, At, Env)],
    {[{At, <<"must not have a property named ", (shown(Key))/binary>>} || Key <- Wrong], #{}};
keyword(<<"properties">>, _, Value, {Schema, At, Env, _}) when is_map(Value) ->
    properties(Value, Schema, At, Env);
%% The first of the three that is there sees to all of them.
keyword(<<"patternProperties">>, _, Value, {Schema, At, Env, _}) when is_map(Value), not is_map_key(<<"properties">>, Schema) ->
    properties(Value, Schema, At, Env);
keyword(<<"additionalProperties">>, _, Value, {Schema, At, Env, _}) when
    is_map(Value), not is_map_key(<<"properties">>, Schema), not is_map_key(<<"patternProperties">>, Schema)
->
    properties(Value, Schema, At, Env);
keyword(<<"allOf">>, Schemas, Value, {_, At, Env, _}) ->
    joined([valid(One, Value, At, Env) || One <- Schemas]);
keyword(<<"anyOf">>, Schemas, Value, {_, At, Env, _}) ->
    case [Seen || {[], Seen} <- [valid(One, Value, At, Env) || One <- Schemas]] of
        [] -> fault(true, At, "must be one of the alternatives of anyOf, and is none");
        Good -> joined([{[], Seen} || Seen <- Good])
    end;
keyword(<<"oneOf">>, Schemas, Value, {_, At, Env, _}) ->
    case [Seen || {[], Seen} <- [valid(One, Value, At, Env) || One <- Schemas]] of
        [Seen] -> {[], Seen};
        [] -> fault(true, At, "must be one of the alternatives of oneOf, and is none");
        _ -> fault(true, At, "must be one of the alternatives of oneOf only, and is several")
    end;
keyword(<<"not">>, Not, Value, {_, At, Env, _}) ->
    fault(holds(Not, Value, At, Env), At, "is what it must not be");
keyword(<<"if">>, If, Value, {Schema, At, Env, _}) ->
    case valid(If, Value, At, Env) of
        {[], Seen} -> joined([{[], Seen}, valid(maps:get(<<"then">>, Schema, true), Value, At, Env)]);
        _ -> valid(maps:get(<<"else">>, Schema, true), Value, At, Env)
    end;
keyword(<<"unevaluatedItems">>, Schema, Value, {_, At, Env, Seen}) when is_list(Value) ->
    each([{Index, Item} || {Index, Item} <- indexed(Value), not is_map_key(Index, Seen)], Schema, At, Env);
keyword(<<"unevaluatedProperties">>, Schema, Value, {_, At, Env, Seen}) when is_map(Value) ->
    each(maps:to_list(maps:without(maps:keys(Seen), Value)), Schema, At, Env);
keyword(_, _, _, _) ->
    {[], #{}}.

is(<<"string">>, Value) -> is_binary(Value);
is(<<"number">>, Value) -> is_number(Value);
is(<<"integer">>, Value) -> is_integer(Value) orelse is_float(Value) andalso trunc(Value) == Value;
is(<<"object">>, Value) -> is_map(Value);
is(<<"array">>, Value) -> is_list(Value);
is(<<"boolean">>, Value) -> is_boolean(Value);
is(<<"null">>, Value) -> Value =:= null;
is(Type, _) -> throw({unusable, {type, Type}}).

is_multiple(Value, Of) when is_integer(Value), is_integer(Of) ->
    Value rem Of =:= 0;
is_multiple(Value, Of) ->
    try Value / Of of
        %% As decimals 4.01 is a multiple of 0.01, and as floats nearly.
        Ratio -> abs(Ratio - round(Ratio)) =< abs(Ratio) * 1.0e-14
    catch
        %% Beyond what a float can be; an integer that large is a multiple of what divides 1.
        error:badarith -> Value =/= 1 andalso trunc(Value) == Value andalso is_multiple(1, Of)
    end.

characters(Text) ->
    length(unicode:characters_to_list(Text)).

%% What takes too long to tell does not match: whoever sends it could tell in which way else.
matches(Pattern, Text) ->
    case re:compile(re:replace(Pattern, <<"\\\\u([0-9a-fA-F]{4})">>, <<"\\\\x{\\1}">>, [global, {return, binary}]), [unicode, dollar_endonly]) of
        {ok, Compiled} -> re:run(Text, Compiled, [{capture, none}, {match_limit, ?MATCH_LIMIT}]) =:= match;
        {error, Why} -> throw({unusable, {pattern, Pattern, Why}})
    end.

shown(Value) ->
    case erlmcp_shm_json:encode(Value) of
        {ok, Json} when byte_size(Json) =< 500 -> Json;
        {ok, <<Begin:500/binary, _/binary>>} -> <<Begin/binary, "...">>;
        {error, _} -> <<"?">>
    end.

%%% Parts of a value

below(Env) ->
    Env#env{refs = 0}.

holds(Schema, Value, At, Env) ->
    element(1, valid(Schema, Value, At, Env)) =:= [].

indexed(Items) ->
    lists:zip(lists:seq(0, length(Items) - 1), Items).

evaluated(_, #env{track = false}) -> #{};
evaluated(Steps, _) -> maps:from_keys(Steps, []).

joined(Results) ->
    {lists:append([Faults || {Faults, _} <- Results]), lists:foldl(fun({_, Seen}, All) -> maps:merge(All, Seen) end, #{}, Results)}.

each(Parts, Schema, At, Env) ->
    Below = below(Env),
    {
        lists:append([element(1, valid(Schema, Part, [Step | At], Below)) || {Step, Part} <- Parts]),
        evaluated([Step || {Step, _} <- Parts], Env)
    }.

prefix(Schemas, Value, At, Env) ->
    N = min(length(Schemas), length(Value)),
    Pairs = lists:zip(lists:sublist(Schemas, N), lists:sublist(indexed(Value), N)),
    joined([each([Part], Schema, At, Env) || {Schema, Part} <- Pairs]).

rest(Schema, From, Value, At, Env) ->
    each(lists:nthtail(min(From, length(Value)), indexed(Value)), Schema, At, Env).

properties(Value, Schema, At, Env) ->
    Named = maps:get(<<"properties">>, Schema, #{}),
    Patterns = maps:to_list(maps:get(<<"patternProperties">>, Schema, #{})),
    Additional = maps:get(<<"additionalProperties">>, Schema, none),
    joined([
        case [S || {Name, S} <- [{Key, maps:get(Key, Named, none)}], S =/= none, Name =:= Key] ++ [S || {P, S} <- Patterns, matches(P, Key)] of
            [] when Additional =:= none -> {[], #{}};
            [] -> each([{Key, Part}], Additional, At, Env);
            Schemas -> joined([each([{Key, Part}], One, At, Env) || One <- Schemas])
        end
     || {Key, Part} <- maps:to_list(Value)
    ]).

depends(Dependent, Value, {_, At, Env, _}) ->
    joined([
        case What of
            Keys when is_list(Keys) ->
                {
                    [
                        {At, <<"lacks the property ", (shown(Other))/binary, ", which belongs to ", (shown(Key))/binary>>}
                     || Other <- Keys, not is_map_key(Other, Value)
                    ],
                    #{}
                };
            Schema ->
                valid(Schema, Value, At, Env)
        end
     || {Key, What} <- maps:to_list(Dependent), is_map_key(Key, Value)
    ]).

%%% References

follow(_, _, _, #env{refs = Refs}) when Refs >= ?MAX_REFS ->
    throw({unusable, recursion});
follow(Ref, Value, At, #env{refs = Refs} = Env) when is_binary(Ref) ->
    {Schema, Root} = found(Ref, Env),
    valid(Schema, Value, At, Env#env{refs = Refs + 1, root = Root}).

%% Relative to the resource at hand; or that of another `$id' in the same schema.
found(Ref, #env{root = Root, whole = Whole}) ->
    {Resource, Fragment} =
        case binary:split(Ref, <<"#">>) of
            [<<>>, Part] -> {Root, Part};
            [Id, Part] -> {resource(Id, Whole), Part};
            [Id] -> {resource(Id, Whole), <<>>}
        end,
    case uri_string:percent_decode(Fragment) of
        <<>> ->
            {Resource, Resource};
        <<"/", Pointer/binary>> ->
            {lists:foldl(fun(Step, In) -> inside(Step, In, Ref) end, Resource, binary:split(Pointer, <<"/">>, [global])), Resource};
        Anchor ->
            case named([<<"$anchor">>, <<"$dynamicAnchor">>], Anchor, Resource) ++ named([<<"$id">>], <<"#", Anchor/binary>>, Resource) of
                [Schema] -> {Schema, Resource};
                _ -> throw({unusable, {ref, Ref}})
            end
    end.

resource(Id, Whole) ->
    case named([<<"$id">>], Id, Whole) of
        [Schema | _] -> Schema;
        [] -> throw({unusable, {ref, Id}})
    end.

inside(Step, In, Ref) ->
    Key = binary:replace(binary:replace(Step, <<"~1">>, <<"/">>, [global]), <<"~0">>, <<"~">>, [global]),
    case In of
        #{Key := Next} ->
            Next;
        [_ | _] ->
            try
                lists:nth(binary_to_integer(Key) + 1, In)
            catch
                error:_ -> throw({unusable, {ref, Ref}})
            end;
        _ ->
            throw({unusable, {ref, Ref}})
    end.

%% Every schema in it that is called so.
named(Keywords, Name, #{} = Schema) ->
    [Schema || Keyword <- Keywords, maps:get(Keyword, Schema, none) =:= Name] ++
        lists:append([named(Keywords, Name, Part) || {Key, Part} <- maps:to_list(Schema), Key =/= <<"const">>, Key =/= <<"enum">>]);
named(Keywords, Name, [_ | _] = Schemas) ->
    lists:append([named(Keywords, Name, Part) || Part <- Schemas]);
named(_, _, _) ->
    [].
