%% Publishing: what each function returns, and what a lookup sees at once.
-module(erlmcp_shm_exporter_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(E, erlmcp_shm_exporter).

all() ->
    [
        kinds,
        name_spaces,
        versions,
        metadata_forms,
        refusals,
        invalidating,
        batch,
        batch_is_checked_first,
        flushing,
        flushed_by_the_caller,
        many_callers
    ].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

start(Config) ->
    start(Config, #{}).

start(Config, Options) ->
    Default = #{path => erlmcp_shm_test:path(Config), size => 1 bsl 20},
    erlmcp_shm_test:start(maps:merge(Default, Options)).

%%% Entries

kinds(Config) ->
    _ = start(Config),
    ok = ?E:export_resource(<<"file:///test.txt">>, <<"test content">>, #{mime_type => <<"text/plain">>}),
    ok = ?E:export_tool_schema(<<"add">>, #{type => <<"object">>, <<"properties">> => #{}}, #{title => <<"Add">>}),
    ok = ?E:export_prompt(<<"ask">>, #{arguments => [], messages => []}, #{}),
    ok = ?E:export_capability(<<"tools">>, #{listChanged => true}, #{}),
    ?assertMatch(
        {ok, <<"test content">>, #{metadata := <<"{\"mime_type\":\"text/plain\"}">>, version := _}},
        ?E:lookup(resource, <<"file:///test.txt">>)
    ),
    ?assertMatch({ok, <<"{\"arguments\":[],\"messages\":[]}">>, _}, ?E:lookup(prompt, <<"ask">>)),
    ?assertMatch({ok, <<"{\"listChanged\":true}">>, _}, ?E:lookup(capability, <<"tools">>)),
    ?assertEqual({error, not_found}, ?E:lookup(resource, <<"file:///other.txt">>)),
    ok.

name_spaces(Config) ->
    _ = start(Config),
    Kinds = [resource, tool, prompt, capability],
    ok = ?E:export_resource(<<"x">>, <<"resource">>, #{}),
    ok = ?E:export_tool_schema(<<"x">>, #{is => <<"tool">>}, #{}),
    ok = ?E:export_prompt(<<"x">>, #{is => <<"prompt">>}, #{}),
    ok = ?E:export_capability(<<"x">>, #{is => <<"capability">>}, #{}),
    ?assertEqual(4, length(lists:usort([data(Kind, <<"x">>) || Kind <- Kinds]))),
    ok = ?E:invalidate(tool, <<"x">>),
    ?assertEqual({error, not_found}, ?E:lookup(tool, <<"x">>)),
    ?assertEqual(3, length([K || K <- Kinds, {ok, _, _} <- [?E:lookup(K, <<"x">>)]])).

versions(Config) ->
    _ = start(Config),
    Versions = [
        begin
            ok = ?E:export_resource(<<"k">>, integer_to_binary(N), #{}),
            {ok, _, #{version := Version}} = ?E:lookup(resource, <<"k">>),
            Version
        end
     || N <- lists:seq(1, 50)
    ],
    ?assertEqual(Versions, lists:usort(Versions)).

metadata_forms(Config) ->
    _ = start(Config),
    Given = <<"{ \"title\" : \"as  given\", \"n\":1.50 }">>,
    Forms = [
        {#{}, <<"{}">>},
        {#{name => <<"n">>, <<"b">> => 1}, <<"{\"b\":1,\"name\":\"n\"}">>},
        {#{description => nil, title => null}, <<"{\"description\":null,\"title\":null}">>},
        {#{annotations => #{audience => [<<"user">>]}}, <<"{\"annotations\":{\"audience\":[\"user\"]}}">>},
        {#{ttl_ms => 5000, cache_scope => <<"private">>}, <<"{\"cache_scope\":\"private\",\"ttl_ms\":5000}">>},
        {#{ttlMs => 5000, cacheScope => <<"public">>}, <<"{\"cacheScope\":\"public\",\"ttlMs\":5000}">>},
        {{json, Given}, Given}
    ],
    [
        begin
            ok = ?E:export_resource(<<"k">>, <<>>, Form),
            {ok, <<>>, #{metadata := Stored}} = ?E:lookup(resource, <<"k">>),
            ?assertEqual(Expected, Stored)
        end
     || {Form, Expected} <- Forms
    ],
    Schema = <<"{\"type\":\"object\" , \"x\":[ ]}">>,
    ok = ?E:export_tool_schema(<<"t">>, {json, Schema}, {json, <<"{}">>}),
    ?assertEqual(Schema, data(tool, <<"t">>)).

refusals(Config) ->
    _ = start(Config, #{size => 1 bsl 16, max_size => 1 bsl 16}),
    Long = binary:copy(<<"k">>, 65536),
    Table = [
        {empty_key, export_resource, [<<>>, <<>>, #{}]},
        {key_too_large, export_resource, [Long, <<>>, #{}]},
        {{badarg, key}, export_resource, ["uri", <<>>, #{}]},
        {{badarg, key}, export_resource, [uri, <<>>, #{}]},
        {{badarg, data}, export_resource, [<<"k">>, "list", #{}]},
        {{badarg, data}, export_resource, [<<"k">>, [<<"io">>], #{}]},
        {{badarg, data}, export_resource, [<<"k">>, <<1:3>>, #{}]},
        {{badarg, metadata}, export_resource, [<<"k">>, <<>>, []]},
        {{badarg, metadata}, export_resource, [<<"k">>, <<>>, nil]},
        {{badarg, data}, export_tool_schema, [<<"k">>, <<"{}">>, #{}]},
        {{not_json, [a, 0]}, export_tool_schema, [<<"k">>, #{a => [self()]}, #{}]},
        {{not_json, [type]}, export_tool_schema, [<<"k">>, #{type => object}, #{}]},
        {{not_json, [x]}, export_resource, [<<"k">>, <<>>, #{x => {1}}]},
        {{not_json, []}, export_resource, [<<"k">>, <<>>, {json, <<"{">>}]},
        {too_large, export_resource, [<<"k">>, binary:copy(<<0>>, 1 bsl 20), #{}]},
        {{badarg, kind}, invalidate, [resources, <<"k">>]},
        {{badarg, key}, invalidate, [tool, k]},
        {{badarg, kind}, lookup, [<<"tool">>, <<"k">>]},
        {{badarg, key}, lookup, [tool, 17]}
    ],
    Wrong = [
        {Function, Args, Result}
     || {Reason, Function, Args} <- Table,
        Result <- [apply(?E, Function, Args)],
        Result =/= {error, Reason}
    ],
    ?assertEqual([], Wrong),
    ?assertMatch(#{shm_entries := 0}, ?E:metrics()).

invalidating(Config) ->
    _ = start(Config),
    Uri = <<"file:///test.txt">>,
    ok = ?E:invalidate(resource, Uri),
    ok = ?E:export_resource(Uri, <<"v1">>, #{}),
    ?assertEqual(<<"v1">>, data(resource, Uri)),
    ok = ?E:export_resource(Uri, <<"v2">>, #{}),
    ?assertEqual(<<"v2">>, data(resource, Uri)),
    ok = ?E:invalidate(resource, Uri),
    ?assertEqual({error, not_found}, ?E:lookup(resource, Uri)),
    ok = ?E:invalidate(resource, Uri),
    ok = ?E:export_resource(Uri, <<"v3">>, #{}),
    ?assertEqual(<<"v3">>, data(resource, Uri)).

%%% Batches

batch(Config) ->
    _ = start(Config),
    ok = ?E:export_batch([]),
    ok = ?E:export_resource(<<"gone">>, <<"x">>, #{}),
    ok = ?E:export_batch([
        {resource, <<"a">>, <<"1">>, #{}},
        {tool, <<"a">>, #{n => 1}, #{}},
        {prompt, <<"a">>, {json, <<"{}">>}, #{title => <<"t">>}},
        {capability, <<"a">>, #{}, #{}},
        {resource, <<"a">>, <<"2">>, #{}},
        {resource, <<"b">>, <<"3">>, #{}},
        {invalidate, resource, <<"b">>},
        {invalidate, resource, <<"gone">>},
        {invalidate, tool, <<"never there">>}
    ]),
    ?assertEqual(<<"2">>, data(resource, <<"a">>)),
    ?assertEqual(<<"{\"n\":1}">>, data(tool, <<"a">>)),
    ?assertEqual({error, not_found}, ?E:lookup(resource, <<"b">>)),
    ?assertEqual({error, not_found}, ?E:lookup(resource, <<"gone">>)),
    ?assertMatch(#{shm_entries := 4}, ?E:metrics()).

batch_is_checked_first(Config) ->
    _ = start(Config),
    Good = {resource, <<"good">>, <<"x">>, #{}},
    Bad = [
        {empty_key, {resource, <<>>, <<>>, #{}}},
        {{badarg, kind}, {tools, <<"k">>, #{}, #{}}},
        {{badarg, data}, {resource, <<"k">>, "list", #{}}},
        {{not_json, [p]}, {tool, <<"k">>, #{p => self()}, #{}}},
        {{not_json, [f]}, {resource, <<"k">>, <<>>, #{f => fun() -> ok end}}},
        {{badarg, key}, {invalidate, resource, key}}
    ],
    [?assertEqual({error, {2, Reason}}, ?E:export_batch([Good, Good, Item, Good])) || {Reason, Item} <- Bad],
    ?assertMatch({error, {1, {badarg, _}}}, ?E:export_batch([Good, what])),
    ?assertMatch({error, _}, ?E:export_batch([Good | improper])),
    ?assertMatch({error, _}, ?E:export_batch(#{})),
    ?assertEqual({error, not_found}, ?E:lookup(resource, <<"good">>)),
    ?assertMatch(#{shm_puts_total := 0}, ?E:metrics()).

%%% Callers

flushing(Config) ->
    _ = start(Config, #{flush_interval => 100}),
    ok = ?E:export_resource(<<"k">>, <<"v">>, #{}),
    ok = ?E:flush(),
    ok = ?E:flush().

flushed_by_the_caller(Config) ->
    _ = start(Config, #{flush_interval => 0}),
    ok = ?E:export_resource(<<"k">>, <<"v">>, #{}),
    ok = ?E:export_batch([{resource, <<"k">>, <<"w">>, #{}}, {invalidate, resource, <<"k">>}]),
    ?assertEqual({error, empty_key}, ?E:export_resource(<<>>, <<"v">>, #{})),
    ?assertEqual({error, not_found}, ?E:lookup(resource, <<"k">>)).

%% Eight callers at once: what each has been told is published, it finds.
many_callers(Config) ->
    _ = start(Config, #{size => 1 bsl 22}),
    Caller = fun(C) ->
        [
            begin
                Key = <<"caller ", (integer_to_binary(C))/binary, " key ", (integer_to_binary(N rem 20))/binary>>,
                Value = binary:copy(integer_to_binary(N), 1 + N rem 97),
                ok = ?E:export_resource(Key, Value, #{n => N}),
                Value = data(resource, Key)
            end
         || N <- lists:seq(1, 2000)
        ]
    end,
    Callers = [spawn_monitor(fun() -> Caller(C) end) || C <- lists:seq(1, 8)],
    [
        receive
            {'DOWN', Ref, process, Pid, Reason} -> ?assertEqual(normal, Reason)
        end
     || {Pid, Ref} <- Callers
    ],
    ?assertMatch(#{shm_entries := 160, shm_puts_total := 16000}, ?E:metrics()).

data(Kind, Key) ->
    {ok, Data, _} = ?E:lookup(Kind, Key),
    Data.
