%% What the command writes and what a node writes are the same thing: dumps of a node's store, stores made of dumps,
%% and a published folder that a node takes over.
-module(erlmcp_shm_dump_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(E, erlmcp_shm_exporter).

all() -> [a_nodes_store_comes_back, a_node_takes_over_what_was_loaded, a_node_takes_over_a_published_folder].

init_per_suite(Config) ->
    {ok, File} = erlmcp_shm_test:binary("erlmcp-shm"),
    [{command, File} | Config].

end_per_suite(_Config) ->
    ok.

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

%% Every kind, with bytes that JSON cannot say and metadata that only one spelling of is the same.
entries() ->
    EveryByte = list_to_binary(lists:seq(0, 255)),
    [
        {resource, <<"file:///every byte">>, EveryByte, #{mime_type => <<"application/octet-stream">>}},
        {resource, EveryByte, <<"text">>, {json, <<"{ \"b\": 1.50,  \"a\": [\"\\u00e9\"] }">>}},
        {resource, <<"empty">>, <<>>, #{}},
        {resource, <<"private">>, <<"x">>, #{cache_scope => <<"private">>, ttl_ms => 3600000}},
        {tool, <<"add">>, #{type => <<"object">>, required => [<<"a">>]}, #{title => <<"Adds">>}},
        {prompt, <<"greet">>, #{messages => []}, #{}},
        {capability, <<"tools">>, {json, <<"{\"listChanged\": true}">>}, #{complete => true}}
    ].

export() ->
    lists:foreach(fun(Entry) -> ok = export(Entry) end, entries()).

export({resource, Key, Data, Metadata}) -> ?E:export_resource(Key, Data, Metadata);
export({tool, Key, Data, Metadata}) -> ?E:export_tool_schema(Key, Data, Metadata);
export({prompt, Key, Data, Metadata}) -> ?E:export_prompt(Key, Data, Metadata);
export({capability, Key, Data, Metadata}) -> ?E:export_capability(Key, Data, Metadata).

%% What the readers of this language find in a file, keys with everything that belongs to them.
found(Path) ->
    {ok, Reader} = erlmcp_shm_reader:open(Path),
    [{Key, erlmcp_shm_reader:lookup(Reader, Kind, Key)} || {Kind, Key, _, _} <- entries()].

a_nodes_store_comes_back(Config) ->
    Path = erlmcp_shm_test:path(Config),
    Copy = Path ++ ".copy",
    _ = erlmcp_shm_test:start(#{path => Path, size => 1 bsl 20}),
    ok = export(),
    Dump = dump(Config, Path),
    {0, <<"loaded 7, withdrawn 0\n">>} = load(Config, Copy, Dump, []),
    Found = found(Path),
    ?assertMatch([{_, {ok, _, #{version := 1}}} | _], Found),
    ?assertEqual(Found, found(Copy)),
    ?assertEqual(Dump, dump(Config, Copy)).

a_node_takes_over_what_was_loaded(Config) ->
    Path = erlmcp_shm_test:path(Config),
    Copy = Path ++ ".copy",
    _ = erlmcp_shm_test:start(#{path => Path, size => 1 bsl 20}),
    ok = export(),
    Found = found(Path),
    Dump = dump(Config, Path),
    ok = erlmcp_shm_test:stop(),
    {0, _} = load(Config, Copy, Dump, []),
    _ = erlmcp_shm_test:start(#{path => Copy, size => 1 bsl 20}),
    ?assertEqual(Found, [{Key, ?E:lookup(Kind, Key)} || {Kind, Key, _, _} <- entries()]),
    %% Two writers of one file there are not, whatever language they are in.
    {2, <<>>} = load(Config, Copy, Dump, ["--merge"]),
    %% The versions go on from where the dump was.
    ok = ?E:export_resource(<<"empty">>, <<"no more">>, #{}),
    ?assertMatch({ok, <<"no more">>, #{version := 8}}, ?E:lookup(resource, <<"empty">>)).

a_node_takes_over_a_published_folder(Config) ->
    Path = erlmcp_shm_test:path(Config),
    Dir = Path ++ ".dir",
    ok = file:make_dir(Dir),
    ok = file:write_file(filename:join(Dir, "a b.md"), <<"# hello">>),
    Publish = ["publish", Dir, "--prefix", "docs:"],
    {0, _} = command(Config, Path, Publish),
    _ = erlmcp_shm_test:start(#{path => Path, size => 1 bsl 20}),
    {ok, <<"# hello">>, #{metadata := Metadata}} = ?E:lookup(resource, <<"docs:a%20b.md">>),
    ?assertEqual(<<"{\"name\":\"a b.md\",\"mime_type\":\"text/markdown\"}">>, Metadata),
    {2, <<>>} = command(Config, Path, Publish).

dump(Config, Path) ->
    {0, Dump} = command(Config, Path, ["dump"]),
    Dump.

load(Config, Path, Dump, Args) ->
    File = Path ++ ".jsonl",
    ok = file:write_file(File, Dump),
    command(Config, Path, ["load", File | Args]).

command(Config, Path, Args) ->
    erlmcp_shm_test:run(proplists:get_value(command, Config), ["--path", Path | Args]).
