%% A panic in a native function is an error in the caller, and one under the writer's lock ends that writer and
%% nothing else. A node of its own loads a library that was built for this: it has one function more.
-module(erlmcp_shm_panic_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(NIF, erlmcp_shm_nif).
-define(EXPORTER, erlmcp_shm_exporter).
%% More points than a change passes under the lock.
-define(POINTS, 6).

all() ->
    [outside_the_lock, under_the_lock, under_the_lock_of_the_application].

suite() ->
    [{timetrap, {minutes, 10}}].

init_per_suite(Config) ->
    {ok, Manifest} = erlmcp_shm_test:project_file("Cargo.lock"),
    Root = filename:dirname(Manifest),
    Target = filename:join([Root, "target", "test-panic"]),
    Args = ["build", "--quiet", "-p", "erlmcp-shm-native", "--features", "test-panic", "--target-dir", Target],
    Cargo = open_port({spawn_executable, os:find_executable("cargo")}, [{args, Args}, {cd, Root}, exit_status]),
    receive
        {Cargo, {exit_status, 0}} -> ok
    end,
    [Built] = filelib:wildcard(filename:join([Target, "debug", "liberlmcp_shm_native.{so,dylib}"])),
    App = filename:join([proplists:get_value(priv_dir, Config), "with_panics", "erlmcp_shm"]),
    copy_of_the_application(App, Built),
    [{app, App} | Config].

end_per_suite(_Config) ->
    ok.

%% The application as it is, but for this library, and a module that knows its function.
copy_of_the_application(App, Library) ->
    Ebin = filename:dirname(code:which(?EXPORTER)),
    [copy(File, filename:join(App, "ebin")) || File <- filelib:wildcard(filename:join(Ebin, "erlmcp_shm*"))],
    Nif = filename:join([App, "priv", "erlmcp_shm_nif.so"]),
    ok = filelib:ensure_dir(Nif),
    {ok, _} = file:copy(Library, Nif),
    {ok, {?NIF, [{abstract_code, {raw_abstract_v1, Forms}}]}} = beam_lib:chunks(code:which(?NIF), [abstract_code]),
    {Head, Functions} = lists:splitwith(fun(Form) -> element(1, Form) =/= function end, Forms),
    More = [
        form("-export([panic_at/1])."),
        form("-nifs([panic_at/1])."),
        form("panic_at(_N) -> erlang:nif_error(not_loaded).")
    ],
    {ok, ?NIF, Beam} = compile:forms(Head ++ More ++ Functions, []),
    ok = file:write_file(filename:join([App, "ebin", "erlmcp_shm_nif.beam"]), Beam).

copy(File, Dir) ->
    To = filename:join(Dir, filename:basename(File)),
    ok = filelib:ensure_dir(To),
    {ok, _} = file:copy(File, To).

form(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Form} = erl_parse:parse_form(Tokens),
    Form.

init_per_testcase(Case, Config) ->
    Node = erlmcp_shm_test:start_node(),
    true = erlmcp_shm_test:call(Node, code, add_patha, [filename:join(proplists:get_value(app, Config), "ebin")]),
    [{case_name, Case}, {node, Node} | Config].

end_per_testcase(_Case, Config) ->
    erlmcp_shm_test:stop_node(proplists:get_value(node, Config)).

in_node(Config, Function) ->
    Path = erlmcp_shm_test:path(Config),
    erlmcp_shm_test:call(proplists:get_value(node, Config), ?MODULE, Function, [Path]).

%%% Outside

outside_the_lock(Config) ->
    in_node(Config, panic_outside).

panic_outside(Path) ->
    ok = erlmcp_shm_test:start_unlinked(#{path => Path}),
    Exporter = whereis(?EXPORTER),
    ok = ?EXPORTER:export_resource(<<"kept">>, <<"value">>, #{}),
    Before = erlmcp_shm_reload_SUITE:held(Path),
    [?assertError(nif_panicked, ?NIF:panic_at(0)) || _ <- lists:seq(1, 100)],
    ok = ?EXPORTER:export_resource(<<"after">>, <<"value">>, #{}),
    {ok, <<"value">>, _} = ?EXPORTER:lookup(resource, <<"kept">>),
    ?assertMatch(#{state := live}, ?EXPORTER:info()),
    ?assertEqual(Exporter, whereis(?EXPORTER)),
    erlmcp_shm_reload_SUITE:nothing_leaked(Path, Before),
    ok.

%%% Under the lock

under_the_lock(Config) ->
    in_node(Config, panic_under).

%% Each function that takes the lock, on a normal scheduler, on a dirty one, and on the writer's own thread.
panic_under(Path) ->
    ok = start(Path),
    ok = ?EXPORTER:export_resource(<<"kept">>, large(), #{}),
    ok = ?EXPORTER:export_resource(<<"changed">>, <<0:32>>, #{}),
    Before = erlmcp_shm_reload_SUITE:held(Path),
    Reached = [{What, N} || What <- [small, large, batch, delete, compact], N <- lists:seq(1, ?POINTS), panicked(Path, What, N)],
    [?assert(lists:keymember(What, 1, Reached), What) || What <- [small, large, batch, delete, compact]],
    erlmcp_shm_reload_SUITE:nothing_leaked(Path, Before),
    ok.

%% No heartbeat comes between.
start(Path) ->
    erlmcp_shm_test:start_unlinked(#{path => Path, heartbeat_interval => 60000}).

panicked(Path, What, N) ->
    Returned = <<N:32>>,
    ok = ?EXPORTER:export_resource(<<"changed">>, Returned, #{}),
    ok = ?EXPORTER:export_resource(<<"deleted">>, <<"soon">>, #{}),
    ok = ?NIF:panic_at(N),
    case change(What) of
        ok ->
            %% It passes fewer points: let another go on from there.
            _ = [change(small) || _ <- lists:seq(1, N)],
            reopened(Path, Returned),
            false;
        Panicked ->
            %% The writer's thread has no caller: who waits for it, or comes after it, is told.
            ?assert(lists:member(Panicked, [nif_panicked, {error, failed}]), Panicked),
            every_export_is_refused(),
            found_by_another_process(Path, Returned),
            reopened(Path, Returned),
            true
    end.

change(What) ->
    try
        changed(What)
    catch
        error:nif_panicked -> nif_panicked
    end.

changed(small) -> ?EXPORTER:export_resource(<<"small">>, <<"new">>, #{});
changed(large) -> ?EXPORTER:export_resource(<<"large">>, large(), #{});
changed(batch) -> ?EXPORTER:export_batch([{resource, <<"in a batch">>, <<"new">>, #{}}]);
changed(delete) -> ?EXPORTER:invalidate(resource, <<"deleted">>);
changed(compact) ->
    {Writer, _} = erlmcp_shm_writer:held(),
    ?NIF:compact(erlmcp_shm_writer:own(Writer)).

every_export_is_refused() ->
    Batch = [{resource, <<"b">>, <<>>, #{}}],
    [
        begin
            ?assertEqual({error, failed}, ?EXPORTER:export_resource(<<"r">>, <<>>, #{})),
            ?assertEqual({error, failed}, ?EXPORTER:export_resource(<<"r">>, large(), #{})),
            ?assertEqual({error, failed}, ?EXPORTER:export_tool_schema(<<"t">>, #{}, #{})),
            ?assertMatch({error, {0, failed}}, ?EXPORTER:export_batch(Batch)),
            ?assertEqual({error, failed}, ?EXPORTER:invalidate(resource, <<"kept">>))
        end
     || _ <- lists:seq(1, 3)
    ],
    {ok, Kept, _} = ?EXPORTER:lookup(resource, <<"kept">>),
    ?assertEqual(large(), Kept),
    ?assertMatch(#{state := failed}, ?EXPORTER:info()).

found_by_another_process(Path, Returned) ->
    {ok, Command} = erlmcp_shm_test:binary("erlmcp-shm"),
    Get = fun(Key) -> erlmcp_shm_test:run(Command, ["--path", Path, "get", "resource", Key]) end,
    ?assertEqual({0, large()}, Get("kept")),
    ?assertEqual({0, Returned}, Get("changed")).

%% A start of the exporter opens the store again, and has what had returned.
reopened(Path, Returned) ->
    %% As a crash would end it, so that the failed writer is still held.
    exit(whereis(?EXPORTER), kill),
    erlmcp_shm_test:eventually(fun() -> whereis(?EXPORTER) =:= undefined end),
    ok = start(Path),
    {ok, Kept, _} = ?EXPORTER:lookup(resource, <<"kept">>),
    ?assertEqual(large(), Kept),
    ?assertMatch({ok, Returned, _}, ?EXPORTER:lookup(resource, <<"changed">>)),
    found_by_another_process(Path, Returned),
    ok = ?EXPORTER:export_resource(<<"small">>, <<"again">>, #{}).

%% What goes to a dirty scheduler.
large() -> binary:copy(<<"0123456789">>, 30000).

%%% And nobody has to do anything about it

under_the_lock_of_the_application(Config) ->
    in_node(Config, panic_under_the_application).

%% The next heartbeat ends the exporter, and the supervisor's next one opens the store again.
panic_under_the_application(Path) ->
    _ = application:load(erlmcp_shm),
    ok = application:set_env(erlmcp_shm, claude_flow, #{shared_memory => #{path => Path}}),
    {ok, _} = application:ensure_all_started(erlmcp_shm),
    ok = ?EXPORTER:export_resource(<<"kept">>, large(), #{}),
    Exporter = whereis(?EXPORTER),
    Before = erlmcp_shm_reload_SUITE:held(Path),
    ok = ?NIF:panic_at(1),
    ?assertEqual(nif_panicked, change(small)),
    erlmcp_shm_test:eventually(fun() -> change(small) =:= ok end),
    ?assertNotEqual(Exporter, whereis(?EXPORTER)),
    {ok, Kept, _} = ?EXPORTER:lookup(resource, <<"kept">>),
    ?assertEqual(large(), Kept),
    erlmcp_shm_reload_SUITE:nothing_leaked(Path, Before),
    ok.
