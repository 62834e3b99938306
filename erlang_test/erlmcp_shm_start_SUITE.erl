%% Starting the exporter, from Erlang and from Elixir, and what it says of itself.
-module(erlmcp_shm_start_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(E, erlmcp_shm_exporter).

all() ->
    [
        not_started_everywhere,
        second_start,
        not_enabled,
        alias,
        wrong_options,
        file_that_cannot_be_made,
        own_supervisor,
        info,
        metrics,
        strange_messages,
        elixir
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

not_started_everywhere(_Config) ->
    Calls = [
        {export_resource, [<<"k">>, <<>>, #{}]},
        {export_tool_schema, [<<"k">>, #{}, #{}]},
        {export_prompt, [<<"k">>, #{}, #{}]},
        {export_capability, [<<"k">>, #{}, #{}]},
        {export_batch, [[]]},
        {invalidate, [resource, <<"k">>]},
        {lookup, [resource, <<"k">>]},
        {info, []},
        {metrics, []},
        {flush, []}
    ],
    [?assertEqual({F, {error, not_started}}, {F, apply(?E, F, Args)}) || {F, Args} <- Calls].

second_start(Config) ->
    Pid = start(Config),
    Second = ?E:start_link(#{path => erlmcp_shm_test:path(Config) ++ "2"}),
    ?assertEqual({error, {already_started, Pid}}, Second),
    ok = ?E:export_resource(<<"k">>, <<"v">>, #{}).

not_enabled(Config) ->
    Path = erlmcp_shm_test:path(Config),
    ?assertEqual(ignore, ?E:start_link(#{path => Path, enabled => false})),
    ?assertEqual({error, not_started}, ?E:info()),
    ?assertNot(filelib:is_file(Path)).

alias(Config) ->
    Path = erlmcp_shm_test:path(Config),
    _ = erlmcp_shm_test:start(#{shm_path => Path, size => 1 bsl 20}),
    ?assert(filelib:is_regular(Path)).

%% A wrong option costs the caller nothing but the answer: this process does not trap exits.
wrong_options(Config) ->
    process_flag(trap_exit, false),
    Path = erlmcp_shm_test:path(Config),
    Try = fun(Options) -> ?E:start_link(Options#{path => Path}) end,
    ?assertEqual({error, {bad_config, [shared_memory, siz], 1}}, Try(#{siz => 1})),
    ?assertEqual({error, {bad_config, [shared_memory, size], 0}}, Try(#{size => 0})),
    ?assertEqual({error, {bad_config, [shared_memory], 17}}, ?E:start_link(17)),
    ?assertEqual({error, not_started}, ?E:info()),
    ?assertNot(filelib:is_file(Path)).

file_that_cannot_be_made(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    NoStore = erlmcp_shm_test:path(Config),
    ok = file:write_file(NoStore, binary:copy(<<"not a store ">>, 1000)),
    ok = file:change_mode(NoStore, 8#600),
    Cases = [
        {filename:join([Dir, "no", "such", "folder.shm"]), enoent},
        {Dir, not_regular},
        {NoStore, not_a_store}
    ],
    [
        begin
            ?assertEqual({error, {failed_to_create_shm, Reason}}, ?E:start_link(#{path => Path})),
            receive
                {'EXIT', _, Exit} -> ?assertEqual({failed_to_create_shm, Reason}, Exit)
            after 1000 -> ok
            end
        end
     || {Path, Reason} <- Cases
    ],
    ?assertEqual({error, not_started}, ?E:info()),
    {ok, <<"not a store", _/binary>>} = file:read_file(NoStore).

own_supervisor(Config) ->
    Options = #{path => list_to_binary(erlmcp_shm_test:path(Config)), size => 1 bsl 20},
    ?assertEqual(?E:child_spec(#{}), ?E:child_spec([])),
    {ok, Sup} = supervisor:start_link(erlmcp_shm_sup, {#{enabled => false}, node}),
    {ok, Pid} = supervisor:start_child(Sup, ?E:child_spec(Options)),
    ok = ?E:export_resource(<<"k">>, <<"v">>, #{}),
    exit(Pid, kill),
    erlmcp_shm_test:eventually(fun() -> not lists:member(whereis(?E), [Pid, undefined]) end),
    ?assertEqual(<<"v">>, data(resource, <<"k">>)),
    ok = supervisor:terminate_child(Sup, ?E),
    ?assertEqual({error, not_started}, ?E:lookup(resource, <<"k">>)),
    {ok, _} = supervisor:restart_child(Sup, ?E),
    ?assertEqual(<<"v">>, data(resource, <<"k">>)),
    ok = gen_server:stop(Sup).

%%% Asking

info(Config) ->
    _ = start(Config, #{heartbeat_interval => 50, flush_interval => 77}),
    ok = ?E:export_resource(<<"k">>, <<"v">>, #{}),
    Path = list_to_binary(erlmcp_shm_test:path(Config)),
    ?assertMatch(
        #{
            path := Path,
            size := 1048576,
            max_size := 8388608,
            mode := 8#600,
            flush_interval := 77,
            heartbeat_interval := 50,
            recover := keep,
            on_locked := stop,
            entries := 1,
            pinned_bytes := _,
            state := live
        },
        ?E:info()
    ),
    {ok, Info} = file:read_link_info(Path),
    ?assertEqual(1048576, element(2, Info)),
    ?assertEqual(8#600, element(8, Info) band 8#777).

metrics(Config) ->
    _ = start(Config),
    [ok = ?E:export_resource(<<"k">>, <<"v">>, #{}) || _ <- lists:seq(1, 10)],
    ok = ?E:export_resource(<<"l">>, <<"v">>, #{}),
    ok = ?E:invalidate(resource, <<"l">>),
    #{
        shm_size_bytes := 1048576,
        shm_entries := 1,
        shm_fragmentation := Fragmentation,
        shm_fill_ratio := Fill,
        shm_generation := Generation,
        shm_heartbeat_age_seconds := Age,
        shm_puts_total := 11,
        shm_deletes_total := 1,
        shm_rollovers_total := 0
    } = ?E:metrics(),
    ?assert(is_float(Fragmentation) andalso Fragmentation >= 0.0 andalso Fragmentation =< 1.0),
    ?assert(is_float(Fill) andalso Fill > 0.0 andalso Fill =< 1.0),
    ?assert(is_integer(Generation)),
    ?assert(is_float(Age) andalso Age >= 0.0 andalso Age < 5.0),
    %% The heartbeat goes on.
    timer:sleep(1500),
    #{shm_heartbeat_age_seconds := Later} = ?E:metrics(),
    ?assert(Later < 1.0).

strange_messages(Config) ->
    Pid = start(Config),
    Pid ! what,
    gen_server:cast(Pid, what),
    ?assertEqual({error, unknown_call}, gen_server:call(Pid, what)),
    Linked = spawn(fun() -> link(Pid) end),
    erlmcp_shm_test:eventually(fun() -> not is_process_alive(Linked) end),
    ?assertEqual({error, unknown_call}, gen_server:call(Pid, still_there)).

elixir(Config) ->
    case os:find_executable("elixir") of
        false ->
            {skip, "SKIPPED: no elixir on the PATH"};
        Elixir ->
            Code =
                "{:ok, _} = Supervisor.start_link([{:erlmcp_shm_exporter,"
                " %{path: System.fetch_env!(\"SHM\"), size: 1048576}}], strategy: :one_for_one)\n"
                "alias :erlmcp_shm_exporter, as: Shm\n"
                ":ok = Shm.export_resource(\"file:///é\", \"hello\", %{title: nil, mime_type: \"text/plain\"})\n"
                "{:ok, \"hello\", %{metadata: m}} = Shm.lookup(:resource, \"file:///é\")\n"
                "{:error, {:not_json, [:a]}} = Shm.export_tool_schema(\"t\", %{a: :b}, %{})\n"
                "IO.write(m)",
            Ebin = filename:dirname(code:which(?E)),
            {Status, Output} = erlmcp_shm_test:run(
                Elixir,
                ["-pa", Ebin, "-e", unicode:characters_to_binary(Code)],
                [{env, [{"SHM", erlmcp_shm_test:path(Config)}, {"LC_ALL", "C.UTF-8"}]}]
            ),
            ?assertEqual({0, <<"{\"mime_type\":\"text/plain\",\"title\":null}">>}, {Status, Output})
    end.

data(Kind, Key) ->
    {ok, Data, _} = ?E:lookup(Kind, Key),
    Data.
