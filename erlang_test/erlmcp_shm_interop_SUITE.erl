%% Erlang publishes, the Rust command reads; Rust writes, Erlang reads. Every reader here is another OS process.
-module(erlmcp_shm_interop_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(E, erlmcp_shm_exporter).

all() ->
    [
        every_kind,
        bytes_unchanged,
        metadata_unchanged,
        absent_and_invalidated,
        usage,
        list,
        stat,
        verify,
        verify_finds_damage,
        after_rollovers,
        after_the_node_was_killed,
        waiting_reader,
        golden_file,
        written_by_rust
    ].

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

start(Config) ->
    start(Config, #{}).

start(Config, Options) ->
    Default = #{path => erlmcp_shm_test:path(Config), size => 1 bsl 20},
    erlmcp_shm_test:start(maps:merge(Default, Options)).

%% Exit status and stdout of `erlmcp-shm --path FILE Args'.
command(Config, Args) ->
    command(Config, erlmcp_shm_test:path(Config), Args).

command(Config, Path, Args) ->
    erlmcp_shm_test:run(proplists:get_value(command, Config), ["--path", Path | Args]).

get(Config, Kind, Key) ->
    command(Config, ["get", atom_to_list(Kind), Key]).

%%% get

every_kind(Config) ->
    _ = start(Config),
    ok = ?E:export_resource(<<"file:///test.txt">>, <<"test content">>, #{mime_type => <<"text/plain">>}),
    ok = ?E:export_tool_schema(<<"x">>, #{type => <<"object">>, properties => #{a => #{}}}, #{}),
    ok = ?E:export_prompt(<<"x">>, #{arguments => [], messages => []}, #{}),
    ok = ?E:export_capability(<<"x">>, #{listChanged => true}, #{}),
    ?assertEqual({0, <<"test content">>}, get(Config, resource, <<"file:///test.txt">>)),
    ?assertEqual({0, <<"{\"properties\":{\"a\":{}},\"type\":\"object\"}">>}, get(Config, tool, <<"x">>)),
    ?assertEqual({0, <<"{\"arguments\":[],\"messages\":[]}">>}, get(Config, prompt, <<"x">>)),
    ?assertEqual({0, <<"{\"listChanged\":true}">>}, get(Config, capability, <<"x">>)),
    ?assertEqual({1, <<>>}, get(Config, resource, <<"x">>)).

bytes_unchanged(Config) ->
    _ = start(Config, #{max_size => 1 bsl 26}),
    Every = list_to_binary(lists:seq(0, 255)),
    Values = [<<>>, <<0>>, <<"no newline">>, Every, <<"\r\n\n">>, rand:bytes(65536), rand:bytes(65537), rand:bytes(8 bsl 20)],
    Keys = [<<"v", (integer_to_binary(N))/binary>> || N <- lists:seq(1, length(Values))],
    Pairs = lists:zip(Keys, Values),
    [ok = ?E:export_resource(Key, Value, #{}) || {Key, Value} <- Pairs],
    [?assertEqual({Key, true}, {Key, get(Config, resource, Key) =:= {0, Value}}) || {Key, Value} <- Pairs],
    %% Keys with any bytes that an argument of a command can hold.
    Odd = [<<"with space">>, <<"-">>, <<"--json">>, <<"ключ"/utf8>>, <<255, 254, 1>>, binary:copy(<<"k">>, 65535)],
    [ok = ?E:export_resource(Key, Key, #{}) || Key <- Odd],
    [?assertEqual({0, Key}, command(Config, ["get", "resource", "--", Key])) || Key <- Odd].

metadata_unchanged(Config) ->
    _ = start(Config),
    Text = <<"{ \"ttlMs\" : 5000, \"cacheScope\":\"private\" ,\"x\":[ 1.50 ] }">>,
    ok = ?E:export_resource(<<"given">>, <<"v">>, {json, Text}),
    ok = ?E:export_resource(<<"none">>, <<"v">>, #{}),
    ok = ?E:export_resource(<<"map">>, <<"v">>, #{title => <<"t">>, mime_type => nil}),
    Metadata = fun(Key) -> command(Config, ["get", "resource", Key, "--metadata"]) end,
    ?assertEqual({0, Text}, Metadata("given")),
    ?assertEqual({0, <<"{}">>}, Metadata("none")),
    ?assertEqual({0, <<"{\"mime_type\":null,\"title\":\"t\"}">>}, Metadata("map")),
    ?assertEqual({1, <<>>}, Metadata("absent")).

%% Each change is there at the very next lookup of another process.
absent_and_invalidated(Config) ->
    _ = start(Config, #{flush_interval => 60000}),
    Uri = <<"file:///test.txt">>,
    ?assertEqual({1, <<>>}, get(Config, resource, Uri)),
    ok = ?E:export_resource(Uri, <<"v1">>, #{}),
    ?assertEqual({0, <<"v1">>}, get(Config, resource, Uri)),
    ok = ?E:export_resource(Uri, <<"v2">>, #{}),
    ?assertEqual({0, <<"v2">>}, get(Config, resource, Uri)),
    ok = ?E:invalidate(resource, Uri),
    ?assertEqual({1, <<>>}, get(Config, resource, Uri)).

usage(Config) ->
    _ = start(Config),
    ?assertMatch({2, <<>>}, command(Config, ["get", "resources", "k"])),
    ?assertMatch({2, <<>>}, command(Config, ["get", "resource"])),
    ?assertMatch({2, <<>>}, command(Config, ["nonsense"])),
    ?assertMatch({2, <<>>}, command(Config, erlmcp_shm_test:path(Config) ++ ".absent", ["stat"])),
    ?assertMatch({2, <<>>}, command(Config, erlmcp_shm_test:path(Config) ++ ".absent", ["get", "resource", "k"])).

%%% The store as a whole

list(Config) ->
    _ = start(Config),
    Uris = [<<"file:///", (integer_to_binary(N))/binary>> || N <- lists:seq(1, 300)],
    ok = ?E:export_batch([{resource, Uri, Uri, #{}} || Uri <- Uris]),
    ok = ?E:export_tool_schema(<<"add">>, #{}, #{}),
    {0, All} = command(Config, ["list", "--json"]),
    Lines = binary:split(All, <<"\n">>, [global, trim]),
    ?assertEqual(301, length(Lines)),
    [?assertMatch({<<"{">>, _}, {binary:part(Line, 0, 1), Line}) || Line <- Lines],
    [?assertMatch({Uri, {_, _}}, {Uri, binary:match(All, <<$", Uri/binary, $">>)}) || Uri <- Uris],
    {0, Tools} = command(Config, ["list", "--kind", "tool", "--json"]),
    ?assertMatch([_], binary:split(Tools, <<"\n">>, [global, trim])),
    {0, Prefixed} = command(Config, ["list", "--prefix", "file:///29", "--json"]),
    ?assertEqual(11, length(binary:split(Prefixed, <<"\n">>, [global, trim]))).

stat(Config) ->
    _ = start(Config),
    [ok = ?E:export_resource(<<N:32>>, <<"v">>, #{}) || N <- lists:seq(1, 42)],
    {0, Json} = command(Config, ["stat", "--json"]),
    ?assertEqual(42, number(Json, "entries")),
    ?assertEqual(1048576, number(Json, "size")),
    #{generation := Generation, version := Version} = ?E:info(),
    ?assertEqual({Generation, Version}, {number(Json, "generation"), number(Json, "version")}).

number(Json, Key) ->
    case re:run(Json, ["\"", Key, "\" *: *([0-9]+)"], [{capture, all_but_first, list}]) of
        {match, [Digits]} -> list_to_integer(Digits);
        nomatch -> error({no_such_key, Key, Json})
    end.

verify(Config) ->
    _ = start(Config),
    [ok = ?E:export_resource(<<N:32>>, rand:bytes(1000), #{}) || N <- lists:seq(1, 300)],
    ?assertMatch({0, _}, command(Config, ["verify"])),
    ok = gen_server:stop(?E),
    ?assertMatch({0, _}, command(Config, ["verify"])).

%% One bit of one value turned over, in a copy.
verify_finds_damage(Config) ->
    _ = start(Config),
    Value = rand:bytes(1000),
    ok = ?E:export_resource(<<"k">>, Value, #{}),
    ok = gen_server:stop(?E),
    {ok, Bytes} = file:read_file(erlmcp_shm_test:path(Config)),
    [{At, 1000}] = binary:matches(Bytes, Value),
    <<Before:(At + 500)/binary, Byte, After/binary>> = Bytes,
    Damaged = erlmcp_shm_test:path(Config) ++ ".damaged",
    ok = file:write_file(Damaged, [Before, Byte bxor 1, After]),
    ok = file:change_mode(Damaged, 8#600),
    ?assertMatch({0, _}, command(Config, ["verify"])),
    ?assertMatch({1, _}, command(Config, Damaged, ["verify"])).

after_rollovers(Config) ->
    _ = start(Config, #{size => 1 bsl 18, max_size => 1 bsl 22}),
    Key = fun(N) -> <<"key ", (integer_to_binary(N rem 50))/binary>> end,
    Value = fun(N) -> <<(integer_to_binary(N))/binary, 0, (binary:copy(<<N:32>>, 500))/binary>> end,
    [ok = ?E:export_resource(Key(N), Value(N), #{}) || N <- lists:seq(1, 2000)],
    [?assertEqual({0, Value(N)}, get(Config, resource, Key(N))) || N <- lists:seq(1951, 2000)],
    #{shm_rollovers_total := Rollovers} = ?E:metrics(),
    ct:pal("~p rollovers", [Rollovers]),
    ?assert(Rollovers > 0),
    ?assertMatch({0, _}, command(Config, ["verify"])).

%% The file outlives the node: readers go on reading it, and it is sound.
after_the_node_was_killed(Config) ->
    Peer = erlmcp_shm_test:start_node(),
    Options = #{path => erlmcp_shm_test:path(Config), size => 1 bsl 20},
    ok = erlmcp_shm_test:call(Peer, erlmcp_shm_test, start_unlinked, [Options]),
    ok = erlmcp_shm_test:call(Peer, ?E, export_resource, [<<"k">>, <<"v">>, #{}]),
    erlmcp_shm_test:kill_node(Peer),
    ?assertEqual({0, <<"v">>}, get(Config, resource, <<"k">>)),
    ?assertMatch({0, _}, command(Config, ["verify"])),
    _ = start(Config),
    ok = ?E:export_resource(<<"k">>, <<"w">>, #{}),
    ?assertEqual({0, <<"w">>}, get(Config, resource, <<"k">>)).

%%% Waking

%% A waiting reader is woken at once, by the caller with a flush_interval of 0, or by flush/0; by the exporter's
%% process within the interval; and otherwise, at the latest, it looks by itself every 100 ms.
waiting_reader(Config) ->
    Nothing = fun() -> ok end,
    By = [
        {caller, median(Config, 0, Nothing)},
        {process, median(Config, 10, Nothing)},
        {flush, median(Config, 60000, fun() -> ok = ?E:flush() end)},
        {nobody, median(Config, 60000, Nothing)}
    ],
    ct:pal("median ms until a waiting process has a change, by who wakes it: ~p", [By]),
    {nobody, Slow} = lists:last(By),
    [?assert(2 * Ms < Slow, {Who, Ms, Slow}) || {Who, Ms} <- By, Who =/= nobody].

median(Config, Interval, Then) ->
    _ = start(Config, #{flush_interval => Interval}),
    Port = open_port({spawn_executable, proplists:get_value(command, Config)}, [
        {args, ["--path", erlmcp_shm_test:path(Config), "watch", "--json"]}, {line, 4096}, binary, exit_status
    ]),
    %% It is watching once it has told of a first change.
    ready(Port, 0),
    Sorted = lists:sort([latency(Port, Then) || _ <- lists:seq(1, 21)]),
    {os_pid, Os} = erlang:port_info(Port, os_pid),
    port_close(Port),
    _ = os:cmd("kill " ++ integer_to_list(Os)),
    ok = gen_server:stop(?E),
    lists:nth(11, Sorted).

latency(Port, Then) ->
    timer:sleep(rand:uniform(100)),
    Key = iolist_to_binary(["key ", integer_to_list(erlang:unique_integer([positive]))]),
    Start = erlang:monotonic_time(microsecond),
    ok = ?E:export_resource(Key, <<"v">>, #{}),
    ok = Then(),
    line_with(Port, Key),
    (erlang:monotonic_time(microsecond) - Start) / 1000.

ready(_Port, 100) ->
    error(never_ready);
ready(Port, N) ->
    ok = ?E:export_resource(<<"ready">>, <<N:32>>, #{}),
    receive
        {Port, {data, _}} -> drain(Port)
    after 100 -> ready(Port, N + 1)
    end.

drain(Port) ->
    receive
        {Port, {data, _}} -> drain(Port)
    after 300 -> ok
    end.

line_with(Port, Key) ->
    receive
        {Port, {data, {_, Line}}} ->
            case binary:match(Line, Key) of
                nomatch -> line_with(Port, Key);
                _ -> ok
            end
    after 5000 -> error(not_woken)
    end.

%%% The other way round

%% The file of format version 1 that the layout crate keeps, byte for byte.
golden_file(Config) ->
    {ok, Golden} = erlmcp_shm_test:project_file("layout/tests/golden/v1.bin"),
    Path = erlmcp_shm_test:path(Config),
    {ok, _} = file:copy(Golden, Path),
    ok = file:change_mode(Path, 8#600),
    {ok, Reader} = erlmcp_shm_reader:open(Path),
    Lookup = fun(Kind, Key) -> erlmcp_shm_reader:lookup(Reader, Kind, Key) end,
    Content = binary:copy(<<"x">>, 1024),
    {ok, Content, #{version := 1, metadata := Metadata}} = Lookup(resource, <<"file:///docs/readme.md">>),
    ?assertMatch(<<"{\"mime_type\": \"text/plain\", ", _:100/binary>>, Metadata),
    ?assertMatch({ok, <<"{\"type\":\"object\"}">>, #{version := 2}}, Lookup(tool, <<"add">>)),
    ?assertMatch({ok, <<>>, #{version := 5, metadata := <<>>}}, Lookup(resource, <<"add">>)),
    ?assertMatch({ok, <<"secret">>, #{version := 7}}, Lookup(resource, <<0, 255>>)),
    ?assertEqual({error, not_found}, Lookup(prompt, <<"greet">>)),
    ?assertMatch({ok, #{entries := 5, generation := 3}}, erlmcp_shm_reader:stats(Reader)),
    ok = erlmcp_shm_reader:close(Reader),
    %% The exporter takes it over, and its versions go on.
    _ = start(Config),
    ?assertMatch({ok, Content, #{version := 1}}, ?E:lookup(resource, <<"file:///docs/readme.md">>)),
    ?assertEqual({error, not_found}, ?E:lookup(prompt, <<"greet">>)),
    ok = ?E:export_prompt(<<"greet">>, #{messages => []}, #{}),
    ?assertMatch({ok, _, #{version := 8}}, ?E:lookup(prompt, <<"greet">>)).

%% What a program in Rust wrote, entry by entry.
written_by_rust(Config) ->
    {ok, Put} = erlmcp_shm_test:binary("examples/put"),
    Path = erlmcp_shm_test:path(Config),
    Metadata = <<"{\"mime_type\":\"text/plain\"}">>,
    Entries = [
        {resource, <<"file:///a">>, <<"text">>, Metadata},
        {tool, <<"a">>, <<"{ \"type\": \"object\" }">>, <<"{}">>},
        {prompt, <<"a">>, <<"{\"messages\":[]}">>, <<"{}">>},
        {capability, <<"tools">>, <<"true">>, <<"{}">>},
        {resource, <<255, 1>>, binary:copy(<<"x">>, 70000), <<"{}">>}
    ],
    [
        ?assertMatch({0, _}, erlmcp_shm_test:run(Put, [Path, atom_to_list(Kind), Key, Data, About]))
     || {Kind, Key, Data, About} <- Entries
    ],
    {ok, Reader} = erlmcp_shm_reader:open(Path),
    [
        ?assertMatch({ok, Data, #{metadata := About}}, erlmcp_shm_reader:lookup(Reader, Kind, Key))
     || {Kind, Key, Data, About} <- Entries
    ],
    ?assertEqual({error, not_found}, erlmcp_shm_reader:lookup(Reader, resource, <<"a">>)),
    ok = erlmcp_shm_reader:close(Reader),
    %% An exporter takes it over, with all that is in it.
    _ = start(Config),
    [
        ?assertMatch({ok, Data, #{metadata := About}}, ?E:lookup(Kind, Key))
     || {Kind, Key, Data, About} <- Entries
    ].
