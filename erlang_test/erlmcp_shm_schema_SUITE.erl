%% Arguments of tools against their schemas. JSON_SCHEMA_TESTS names a checkout of the public test suite, whose required tests for
%% drafts 2020-12 and 7 are then run as well.
-module(erlmcp_shm_schema_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(S, erlmcp_shm_schema).

all() -> [places, keywords, unusable, bounded, any_schema_any_value, over_mcp, for_ever, public_suite].

init_per_testcase(Case, Config) ->
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_handler:set(undefined),
    erlmcp_shm_test:stop().

places(_Config) ->
    Schema = json(<<"{\"type\":\"object\",\"required\":[\"a\",\"b\"],\"additionalProperties\":false,\"properties\":{"
        "\"a\":{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":1}},\"b\":{\"enum\":[\"x\",\"y\"]},\"c/~d\":{\"type\":\"string\"}}}">>),
    ?assertEqual(ok, ?S:check(Schema, json(<<"{\"a\":[1,2.0],\"b\":\"x\",\"c/~d\":\"\"}">>))),
    ?assertEqual(
        {error, [{<<>>, <<"lacks the required property \"b\"">>}]},
        ?S:check(Schema, json(<<"{\"a\":[]}">>))
    ),
    {error, Faults} = ?S:check(Schema, json(<<"{\"a\":[1,0,\"2\"],\"b\":\"z\",\"c/~d\":null,\"e\":1}">>)),
    ?assertEqual(
        [
            {<<"/a/1">>, <<"must be at least 1">>},
            {<<"/a/2">>, <<"must be of type integer">>},
            {<<"/b">>, <<"must be one of [\"x\",\"y\"]">>},
            {<<"/c~1~0d">>, <<"must be of type string">>},
            {<<"/e">>, <<"is not allowed">>}
        ],
        lists:sort(Faults)
    ).

%% Schema, what it allows, and what not.
keywords(_Config) ->
    [
        begin
            Schema = json(Text),
            [?assertEqual(ok, ?S:check(Schema, json(V)), {Text, V}) || V <- Good],
            [?assertMatch({error, [_ | _]}, ?S:check(Schema, json(V)), {Text, V}) || V <- Bad]
        end
     || {Text, Good, Bad} <- [
            {<<"true">>, [<<"1">>], []},
            {<<"false">>, [], [<<"{}">>]},
            {<<"{\"type\":[\"null\",\"integer\"]}">>, [<<"null">>, <<"3.0">>], [<<"3.5">>, <<"\"3\"">>]},
            {<<"{\"const\":{\"a\":1}}">>, [<<"{\"a\":1.0}">>], [<<"{\"a\":true}">>]},
            {<<"{\"multipleOf\":1e-320}">>, [], [<<"1">>, <<"1e300">>]},
            {<<"{\"multipleOf\":0.01}">>, [<<"4.01">>, <<"1">>], [<<"4.015">>]},
            {<<"{\"exclusiveMaximum\":3,\"exclusiveMinimum\":1}">>, [<<"2">>], [<<"3">>, <<"1">>]},
            {<<"{\"minLength\":2,\"maxLength\":3}">>, [<<"\"\\u00e9\\ud83d\\ude00\"">>, <<"1">>], [<<"\"a\"">>, <<"\"abcd\"">>]},
            {<<"{\"pattern\":\"^\\\\u0061+$\"}">>, [<<"\"aa\"">>], [<<"\"aa\\n\"">>, <<"\"b\"">>]},
            {<<"{\"uniqueItems\":true}">>, [<<"[1,true,\"1\"]">>], [<<"[1,1.0]">>]},
            {<<"{\"prefixItems\":[{\"type\":\"string\"}],\"items\":false}">>, [<<"[\"a\"]">>, <<"[]">>], [<<"[1]">>, <<"[\"a\",1]">>]},
            {<<"{\"contains\":{\"const\":1},\"maxContains\":2}">>, [<<"[0,1]">>], [<<"[0]">>, <<"[1,1,1]">>]},
            {<<"{\"patternProperties\":{\"^x\":{\"type\":\"integer\"}},\"unevaluatedProperties\":false}">>, [<<"{\"x1\":1}">>], [<<"{\"x1\":\"\"}">>, <<"{\"y\":1}">>]},
            {<<"{\"dependentRequired\":{\"a\":[\"b\"]}}">>, [<<"{\"b\":1}">>], [<<"{\"a\":1}">>]},
            {<<"{\"oneOf\":[{\"type\":\"integer\"},{\"minimum\":5}]}">>, [<<"1">>, <<"5.5">>], [<<"6">>, <<"1.5">>]},
            {<<"{\"if\":{\"required\":[\"a\"]},\"then\":{\"required\":[\"b\"]},\"else\":{\"required\":[\"c\"]}}">>, [<<"{\"a\":1,\"b\":1}">>, <<"{\"c\":1}">>], [<<"{\"a\":1}">>, <<"{}">>]},
            {<<"{\"$defs\":{\"t\":{\"properties\":{\"next\":{\"$ref\":\"#/$defs/t\"},\"n\":{\"type\":\"integer\"}}}},\"$ref\":\"#/$defs/t\"}">>,
                [<<"{\"next\":{\"next\":{\"n\":1}}}">>], [<<"{\"next\":{\"next\":{\"n\":\"1\"}}}">>]}
        ]
    ].

unusable(_Config) ->
    [
        ?assertMatch({unusable, _}, ?S:check(json(Schema), json(<<"\"x\"">>)), Schema)
     || Schema <- [
            <<"{\"$ref\":\"file:///etc/passwd\"}">>,
            <<"{\"$ref\":\"http://127.0.0.1:1/x.json\"}">>,
            <<"{\"$ref\":\"#/nowhere\"}">>,
            <<"{\"pattern\":\"(\"}">>,
            <<"{\"type\":\"text\"}">>,
            <<"{\"type\":{}}">>,
            <<"{\"anyOf\":1}">>,
            <<"{\"allOf\":[1]}">>,
            <<"{\"$schema\":\"https://example.com/mine\"}">>,
            <<"{\"$ref\":\"#\"}">>
        ]
    ].

%% A chain of references, one that goes round, a pattern that goes back and forth: each is over soon.
bounded(_Config) ->
    Ref = fun(N) -> #{<<"$ref">> => <<"#/$defs/", (integer_to_binary(N))/binary>>} end,
    Chain = maps:from_list([{integer_to_binary(N), Ref(N + 1)} || N <- lists:seq(1, 20000)]),
    ?assertEqual({unusable, recursion}, soon((Ref(1))#{<<"$defs">> => Chain}, 1)),
    Round = #{<<"anyOf">> => [#{<<"$ref">> => <<"#">>}, #{<<"type">> => <<"string">>}]},
    ?assertEqual({unusable, recursion}, soon(Round, 1)),
    Deep = lists:foldl(fun(_, In) -> [In] end, [], lists:seq(1, 100)),
    ?assertEqual(ok, soon(#{<<"type">> => <<"array">>, <<"items">> => #{<<"$ref">> => <<"#">>}}, Deep)),
    Back = #{<<"pattern">> => <<"^(a+)+$">>},
    ?assertMatch({error, [_]}, soon(Back, <<(binary:copy(<<"a">>, 100000))/binary, "b">>)),
    ?assertMatch({error, [_]}, soon(#{<<"uniqueItems">> => true}, [1 | lists:seq(1, 200000)])).

soon(Schema, Value) ->
    {ok, Outcome} = erlmcp_shm_deadline:run(fun() -> ?S:check(Schema, Value) end, 60000),
    Outcome.

%% Whatever the schema and whatever the value, there is one of the three answers; or it would take long, and a deadline ends it.
%% (Picked, not shrunk: what a schema is made of twice over takes proper too long.)
any_schema_any_value(_Config) ->
    Pick = fun(Type) -> element(2, {ok, _} = proper_gen:pick(proper_types:resize(10, Type))) end,
    Outcomes = [one(Pick(schema()), Pick(value())) || _ <- lists:seq(1, list_to_integer(os:getenv("SCHEMA_TESTS", "500")))],
    Counts = [{Kind, length([O || O <- Outcomes, O =:= Kind])} || Kind <- lists:usort(Outcomes)],
    io:format(user, "~n  any schema, any value: ~p~n", [Counts]),
    %% All of them are met.
    ?assertMatch(#{ok := _, error := _, unusable := _}, maps:from_list(Counts)).

one(Schema, Value) ->
    case erlmcp_shm_deadline:run(fun() -> ?S:check(Schema, Value) end, 1000) of
        {ok, ok} -> ok;
        {ok, {error, [{At, What} | _]}} when is_binary(At), is_binary(What) -> error;
        {ok, {unusable, _}} -> unusable;
        {error, timeout} -> timeout
    end.

schema() ->
    proper_types:sized(fun schema/1).

schema(0) ->
    proper_types:oneof([true, false, #{}, #{<<"$ref">> => <<"#">>}, #{<<"type">> => <<"integer">>}, value()]);
schema(Size) ->
    Smaller = proper_types:resize(Size div 3, schema(Size div 3)),
    Keyword = proper_types:oneof([<<"$defs">>, <<"patternProperties">>, <<"then">>, <<"else">>, <<"minContains">>, <<"$id">>, <<"$anchor">> | keywords()]),
    Argument = proper_types:oneof([
        Smaller,
        proper_types:list(Smaller),
        value(),
        proper_types:oneof([<<"#">>, <<"#/$defs/a">>, <<"string">>, <<"object">>, <<"(a|a)*b">>, <<"[">>, <<"^a">>])
    ]),
    proper_types:frequency([{1, schema(0)}, {6, made_of(proper_types:list({Keyword, Argument}))}, {1, made_of([{<<"properties">>, made_of([{<<"a">>, Smaller}])}])}]).

made_of(Pairs) ->
    proper_types:bind(Pairs, fun(Made) -> maps:from_list(Made) end, false).

value() ->
    proper_types:sized(fun value/1).

value(0) ->
    proper_types:oneof([null, true, 0, -1, 1.5, 1.0e308, 1 bsl 63, <<>>, <<"a">>, <<"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaac">>, proper_types:integer()]);
value(Size) ->
    Smaller = proper_types:resize(Size div 3, value(Size div 3)),
    proper_types:oneof([value(0), proper_types:list(Smaller), made_of(proper_types:list({proper_types:oneof([<<"a">>, <<"b">>]), Smaller}))]).

keywords() ->
    [
        <<"$ref">>, <<"$dynamicRef">>, <<"type">>, <<"enum">>, <<"const">>, <<"multipleOf">>, <<"maximum">>, <<"minimum">>,
        <<"maxLength">>, <<"pattern">>, <<"minItems">>, <<"uniqueItems">>, <<"prefixItems">>, <<"items">>, <<"contains">>,
        <<"required">>, <<"dependentRequired">>, <<"dependentSchemas">>, <<"dependencies">>, <<"propertyNames">>, <<"properties">>,
        <<"additionalProperties">>, <<"allOf">>, <<"anyOf">>, <<"oneOf">>, <<"not">>, <<"if">>, <<"unevaluatedItems">>, <<"unevaluatedProperties">>
    ].

%% The handler is called with what the schema allows and with nothing else; a schema of no use is said once and bars nobody.
over_mcp(Config) ->
    Self = self(),
    _ = erlmcp_shm_test:start(#{path => erlmcp_shm_test:path(Config), size => 1 bsl 20}),
    erlmcp_shm_handler:set(fun({call_tool, Name, Arguments}, _) ->
        Self ! {called, Name, Arguments},
        {ok, <<"done">>}
    end),
    ok = erlmcp_shm_exporter:export_tool_schema(<<"add">>, #{type => <<"object">>, properties => #{a => #{type => <<"number">>}}, required => [<<"a">>]}, #{}),
    ok = erlmcp_shm_exporter:export_tool_schema(<<"odd">>, #{'$ref' => <<"http://127.0.0.1:1/x">>}, #{}),
    ?assertMatch(#{<<"isError">> := false}, called(<<"add">>, #{a => 1})),
    ?assertEqual({called, <<"add">>, #{<<"a">> => 1}}, heard()),
    #{<<"isError">> := true, <<"content">> := [#{<<"text">> := Text}]} = called(<<"add">>, #{a => <<"1">>}),
    ?assertEqual(<<"Invalid arguments for tool add: /a must be of type number">>, Text),
    ?assertMatch(#{<<"isError">> := true}, called(<<"add">>, #{})),
    ?assertEqual(nothing, heard()),
    %% Another schema counts from the next call on.
    ok = erlmcp_shm_exporter:export_tool_schema(<<"add">>, #{type => <<"object">>, properties => #{a => #{type => <<"string">>}}}, #{}),
    ?assertMatch(#{<<"isError">> := false}, called(<<"add">>, #{a => <<"1">>})),
    Said = counters:new(1, []),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => Said}),
    [?assertMatch(#{<<"isError">> := false}, called(Name, #{b => 1})) || Name <- [<<"odd">>, <<"odd">>, <<"unpublished">>]],
    ok = logger:remove_handler(?MODULE),
    ?assertEqual(1, counters:get(Said, 1)).

log(#{msg := {report, #{what := tool_schema, tool := <<"odd">>}}}, #{config := Said}) -> counters:add(Said, 1, 1);
log(_, _) -> ok.

heard() ->
    receive
        {called, _, _} = Called -> Called
    after 100 -> nothing
    end.

called(Name, Arguments) ->
    result(call(Name, Arguments, #{})).

call(Name, Arguments, Options) ->
    Meta = #{<<"io.modelcontextprotocol/protocolVersion">> => <<"2026-07-28">>, <<"io.modelcontextprotocol/clientCapabilities">> => #{}},
    Request = #{jsonrpc => <<"2.0">>, id => 1, method => <<"tools/call">>, params => #{name => Name, arguments => Arguments, '_meta' => Meta}},
    {ok, Json} = erlmcp_shm_json:encode(Request),
    {[], S} = erlmcp_shm_endpoint:handle(Json, erlmcp_shm_endpoint:new(Options)),
    receive
        {erlmcp_shm_reply, _, _} = Reply ->
            {[{reply, 1, _, Answer}], _} = erlmcp_shm_endpoint:info(Reply, S),
            json(Answer)
    after 60000 -> error(no_answer)
    end.

result(#{<<"result">> := Result}) -> Result.

%% A schema that takes longer than the world has ends with its call's deadline.
for_ever(Config) ->
    _ = erlmcp_shm_test:start(#{path => erlmcp_shm_test:path(Config), size => 1 bsl 20}),
    erlmcp_shm_handler:set(fun(_, _) -> {ok, <<"done">>} end),
    Twice = fun(N) ->
        One = #{'$ref' => <<"#/$defs/", (integer_to_binary(N + 1))/binary>>},
        {integer_to_binary(N), #{allOf => [One, One]}}
    end,
    Defs = maps:from_list([{<<"60">>, true} | [Twice(N) || N <- lists:seq(1, 59)]]),
    ok = erlmcp_shm_exporter:export_tool_schema(<<"long">>, #{'$defs' => Defs, '$ref' => <<"#/$defs/1">>}, #{}),
    Before = length(processes()),
    ?assertMatch(#{<<"error">> := #{<<"message">> := <<"Deadline exceeded">>}}, call(<<"long">>, #{}, #{tool_timeout => 300})),
    erlmcp_shm_test:eventually(fun() -> length(processes()) =< Before end).

public_suite(_Config) ->
    case os:getenv("JSON_SCHEMA_TESTS") of
        false ->
            {skip, "SKIPPED: JSON_SCHEMA_TESTS names no checkout of the public suite"};
        Dir ->
            lists:foreach(fun({Draft, Dialect}) -> public(filename:join([Dir, "tests", Draft]), Dialect) end, [
                {"draft2020-12", none}, {"draft7", <<"http://json-schema.org/draft-07/schema#">>}
            ])
    end.

%% No answer is wrong; there may be none, for what leads out of the schema above all.
public(Dir, Dialect) ->
    Files = filelib:wildcard(filename:join(Dir, "*.json")),
    ?assert(length(Files) > 30),
    Outcomes = [
        case {?S:check(of_dialect(Schema, Dialect), Value), Valid} of
            {ok, true} -> right;
            {{error, _}, false} -> right;
            {{unusable, _}, _} -> none;
            {Wrong, _} -> {wrong, File, Group, What, Wrong}
        end
     || File <- Files,
        #{<<"schema">> := Schema, <<"tests">> := Tests, <<"description">> := Group} <- json(element(2, {ok, _} = file:read_file(File))),
        #{<<"data">> := Value, <<"valid">> := Valid, <<"description">> := What} <- Tests
    ],
    Count = fun(Kind) -> length([O || O <- Outcomes, O =:= Kind]) end,
    io:format(user, "~n  ~-14ts right ~5b   no answer ~4b~n", [filename:basename(Dir), Count(right), Count(none)]),
    ?assertEqual([], [O || O <- Outcomes, is_tuple(O)]),
    ?assert(Count(none) * 12 < length(Outcomes)).

of_dialect(#{} = Schema, Dialect) when is_binary(Dialect) -> maps:merge(#{<<"$schema">> => Dialect}, Schema);
of_dialect(Schema, _) -> Schema.

json(Text) ->
    {ok, Term} = erlmcp_shm_json:decode(Text),
    Term.
