%% Node and reader together, as users meet them: what is published here, a Rust process that stays open reads.
-module(claude_flow_integration_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(E, erlmcp_shm_exporter).

all() ->
    [
        test_shm_export_read,
        test_cache_invalidation,
        test_latency_requirements
    ].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    catch gen_server:stop(erlmcp_claude_flow),
    erlmcp_shm_test:stop().

%% The wake-ups are far away: what is seen at once is not seen because of them.
start(Config) ->
    Shared = #{path => erlmcp_shm_test:path(Config), size => 1 bsl 20, flush_interval => 60000},
    {ok, _} = erlmcp_claude_flow:start_link(#{shared_memory => Shared}),
    ok.

test_shm_export_read(Config) ->
    ok = start(Config),
    Reader = reader(Config),
    Uri = <<"file:///test.txt">>,
    ?assertEqual(absent, read(Reader, Uri)),
    ok = ?E:export_resource(Uri, <<"test content">>, #{mime_type => <<"text/plain">>}),
    {Version, Metadata, Data} = read(Reader, Uri),
    ?assertEqual(<<"test content">>, Data),
    ?assertEqual(<<"{\"mime_type\":\"text/plain\"}">>, Metadata),
    %% And this node says the same.
    ?assertMatch({ok, Data, #{metadata := Metadata, version := Version}}, ?E:lookup(resource, Uri)),
    ?assertMatch(#{shm_entries := 1, shm_size_bytes := 1048576}, erlmcp_claude_flow:metrics()).

%% Each at the very next lookup.
test_cache_invalidation(Config) ->
    ok = start(Config),
    Reader = reader(Config),
    Uri = <<"file:///test.txt">>,
    ok = ?E:export_resource(Uri, <<"v1">>, #{}),
    {V1, _, <<"v1">>} = read(Reader, Uri),
    ok = ?E:export_resource(Uri, <<"v2">>, #{}),
    {V2, _, <<"v2">>} = read(Reader, Uri),
    ?assert(V2 > V1),
    ok = ?E:invalidate(resource, Uri),
    ?assertEqual(absent, read(Reader, Uri)),
    ?assertEqual({error, not_found}, ?E:lookup(resource, Uri)),
    %% A name that comes back is newer than whatever it was.
    ok = ?E:export_resource(Uri, <<"v1">>, #{}),
    {V3, _, <<"v1">>} = read(Reader, Uri),
    ?assert(V3 > V2).

%% Times are shown, not asserted; that every one of the values is right is.
test_latency_requirements(Config) ->
    ok = start(Config),
    Uris = [<<"file:///test", (integer_to_binary(N))/binary, ".txt">> || N <- lists:seq(1, 100)],
    [ok = ?E:export_resource(Uri, <<"test content">>, #{}) || Uri <- Uris],
    Reader = reader(Config),
    [{_, _, <<"test content">>} = read(Reader, Uri) || Uri <- Uris],
    [Lookups, P50, P99] = ask(Reader, "time 10000 resource test content"),
    ?assertEqual(<<"1000000">>, Lookups),
    Us = fun(Ns) -> binary_to_integer(Ns) / 1000 end,
    Rows = [{"p50", Us(P50), "50"}, {"p99", Us(P99), "100"}],
    io:format(user, "~n~-10s ~12s ~12s~n", ["lookup", "measured, us", "budget, us"]),
    [io:format(user, "~-10s ~12.3f ~12s~n", [Name, Time, Budget]) || {Name, Time, Budget} <- Rows].

%%% The reader

reader(Config) ->
    {ok, Command} = erlmcp_shm_test:binary("examples/ask"),
    Path = erlmcp_shm_test:path(Config),
    open_port({spawn_executable, Command}, [{args, [Path]}, {line, 10000}, binary, exit_status]).

%% Version, metadata and data.
read(Reader, Uri) ->
    case ask(Reader, ["get resource ", Uri]) of
        [<<"absent">>] -> absent;
        [Version, Metadata, Data] -> {binary_to_integer(Version), unhex(Metadata), unhex(Data)}
    end.

ask(Reader, Question) ->
    true = port_command(Reader, [Question, $\n]),
    receive
        {Reader, {data, {eol, Answer}}} -> binary:split(Answer, <<" ">>, [global]);
        {Reader, {exit_status, Status}} -> error({reader_failed, Status})
    after 60000 -> error(reader_silent)
    end.

unhex(Hex) ->
    << <<(binary_to_integer(Byte, 16))>> || <<Byte:2/binary>> <= Hex >>.
