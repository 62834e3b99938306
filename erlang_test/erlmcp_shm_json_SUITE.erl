%% Terms to JSON: what each becomes, what is refused and where, and JSON text as it was given.
-module(erlmcp_shm_json_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(N, erlmcp_shm_nif).

all() ->
    [
        json_texts,
        json_refusals,
        json_depth,
        ready_made_json,
        meaningful_metadata
    ].

init_per_testcase(Case, Config) ->
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    ok.

json_texts(_Config) ->
    Table = [
        {#{}, "{}"},
        {[], "[]"},
        {nil, "null"},
        {null, "null"},
        {true, "true"},
        {false, "false"},
        {0, "0"},
        {-1, "-1"},
        {1 bsl 64 - 1, "18446744073709551615"},
        {-(1 bsl 63), "-9223372036854775808"},
        {1.5, "1.5"},
        {0.1, "0.1"},
        {<<>>, "\"\""},
        {<<"a\"b\\c\n">>, "\"a\\\"b\\\\c\\n\""},
        {<<0, 31>>, "\"\\u0000\\u001f\""},
        {"ab", "[97,98]"},
        {[1, [2, []], #{}], "[1,[2,[]],{}]"},
        {#{b => 1, a => 2, <<"aa">> => 3}, "{\"a\":2,\"aa\":3,\"b\":1}"},
        {#{nil => nil, true => true}, "{\"nil\":null,\"true\":true}"},
        {#{'' => 1}, "{\"\":1}"},
        {#{a => #{c => #{}, b => [#{z => 1, y => 2}]}}, "{\"a\":{\"b\":[{\"y\":2,\"z\":1}],\"c\":{}}}"}
    ],
    [?assertEqual({Term, {ok, list_to_binary(Text)}}, {Term, ?N:encode_json(Term)}) || {Term, Text} <- Table],
    Wide = #{'λ' => <<"ключ"/utf8>>, 'é' => 1},
    {ok, Utf8} = ?N:encode_json(Wide),
    ?assertEqual(unicode:characters_to_binary("{\"é\":1,\"λ\":\"ключ\"}"), Utf8),
    %% More keys than a small map holds, in the order of their text.
    Many = maps:from_list([{integer_to_binary(I), I} || I <- lists:seq(100, 200)]),
    Expected = lists:join($,, [io_lib:format("\"~b\":~b", [I, I]) || I <- lists:seq(100, 200)]),
    ?assertEqual({ok, iolist_to_binary([${, Expected, $}])}, ?N:encode_json(Many)).

%% Everything that is no JSON, and where it stands: the keys are named as they were given.
json_refusals(_Config) ->
    Table = [
        {atom, []},
        {undefined, []},
        {self(), []},
        {make_ref(), []},
        {fun() -> ok end, []},
        {{1, 2}, []},
        {<<255>>, []},
        {<<16#ED, 16#A0, 16#80>>, []},
        {<<1:1>>, []},
        {1 bsl 64, []},
        {-(1 bsl 63) - 1, []},
        {[1 | 2], []},
        {[a], [0]},
        {[1, 2, {}], [2]},
        {#{a => b}, [a]},
        {#{<<"a">> => [1, #{c => [nil, self()]}]}, [<<"a">>, 1, c, 1]},
        {#{1 => 1}, [1]},
        {#{"list" => 1}, ["list"]},
        {#{<<255>> => 1}, [<<255>>]},
        {#{a => #{x => #{{} => 1}}}, [a, x, {}]}
    ],
    [?assertEqual({Term, {error, {not_json, Where}}}, {Term, ?N:encode_json(Term)}) || {Term, Where} <- Table],
    %% Two keys that become equal: either may be named.
    {error, {not_json, [Twice]}} = ?N:encode_json(#{a => 1, <<"a">> => 2}),
    ?assert(lists:member(Twice, [a, <<"a">>])),
    {error, {not_json, [in, Twice2]}} = ?N:encode_json(#{in => #{a => 1, <<"a">> => 2}}),
    ?assert(lists:member(Twice2, [a, <<"a">>])).

%% A term may be nested as deeply as memory holds. The native stack is not that deep.
json_depth(_Config) ->
    {ok, _} = ?N:encode_json(nested(100)),
    ?assertMatch({error, {not_json, _}}, ?N:encode_json(nested(1000000))),
    Text = [lists:duplicate(1000000, $[), lists:duplicate(1000000, $])],
    ?assertMatch({error, {not_json, _}}, ?N:encode_json({json, iolist_to_binary(Text)})).

nested(N) ->
    lists:foldl(fun(_, Inner) -> [Inner] end, [], lists:seq(1, N)).

ready_made_json(Config) ->
    Writer = erlmcp_shm_test:open(Config),
    Texts = [<<"{}">>, <<" { } ">>, <<"{\"b\":1,\"a\":[ 1.50 , null]}">>, <<"{\"a\":1,\"a\":2}">>],
    [
        begin
            ok = erlmcp_shm_test:put(Writer, tool, <<"k">>, {json, Text}, {json, Text}),
            ?assertMatch({ok, Text, #{metadata := Text}}, ?N:get(Writer, tool, <<"k">>))
        end
     || Text <- Texts
    ],
    Bad = [<<>>, <<"{">>, <<"{}{}">>, <<"{a:1}">>, <<"{'a':1}">>, <<"{\"a\":\"", 255, "\"}">>, <<"{\"a\":01}">>, <<"nan">>],
    [
        ?assertEqual({Text, {error, {not_json, []}}}, {Text, erlmcp_shm_test:put(Writer, Kind, <<"k">>, Data, Metadata)})
     || Text <- Bad,
        {Kind, Data, Metadata} <- [
            {tool, {json, Text}, #{}}, {capability, {json, Text}, #{}}, {resource, <<>>, {json, Text}}
        ]
    ],
    %% Metadata, schemas and prompts are objects.
    ?assertMatch({error, _}, erlmcp_shm_test:put(Writer, resource, <<"k">>, <<>>, {json, <<"[]">>})),
    ?assertMatch({error, _}, erlmcp_shm_test:put(Writer, tool, <<"k">>, {json, <<"1">>}, #{})),
    ok = ?N:close(Writer).

meaningful_metadata(Config) ->
    Writer = erlmcp_shm_test:open(Config),
    Good = [
        #{ttl_ms => 0},
        #{ttlMs => 10000, cacheScope => <<"private">>},
        #{cache_scope => <<"public">>},
        {json, <<"{\"ttlMs\":1}">>}
    ],
    [?assertEqual(ok, erlmcp_shm_test:put(Writer, resource, <<"k">>, <<>>, M)) || M <- Good],
    Bad = [
        #{ttl_ms => -1},
        #{ttl_ms => <<"1s">>},
        #{ttlMs => 1.5},
        #{cache_scope => <<"secret">>},
        #{cacheScope => 1},
        {json, <<"{\"ttl_ms\":\"x\"}">>}
    ],
    [?assertMatch({error, {bad_metadata, _}}, erlmcp_shm_test:put(Writer, resource, <<"k">>, <<>>, M)) || M <- Bad],
    ok = ?N:close(Writer).
