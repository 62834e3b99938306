%% The module of the native functions is loaded again, and purged, while they are in use: the node lives, what is
%% held stays as it was, and nothing is leaked. Each case runs in a node of its own, so that a crash is a failure.
-module(erlmcp_shm_reload_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(NIF, erlmcp_shm_nif).
%% Larger than what lookups copy.
-define(LARGE, 100000).

all() ->
    [loaded_a_hundred_times, purged_with_binaries_held, purged_under_the_application].

init_per_testcase(Case, Config) ->
    Node = erlmcp_shm_test:start_node(),
    [{case_name, Case}, {node, Node} | Config].

end_per_testcase(_Case, Config) ->
    erlmcp_shm_test:stop_node(proplists:get_value(node, Config)).

in_node(Config, Function) ->
    Node = proplists:get_value(node, Config),
    Path = erlmcp_shm_test:path(Config),
    erlmcp_shm_test:call(Node, ?MODULE, Function, [Path]).

%%% Loaded again

loaded_a_hundred_times(Config) ->
    in_node(Config, load_again).

load_again(Path) ->
    ok = erlmcp_shm_test:start_unlinked(#{path => Path}),
    Exporter = whereis(erlmcp_shm_exporter),
    ok = erlmcp_shm_exporter:export_resource(<<"kept">>, large(), #{}),
    Load = spawn_link(?MODULE, exports, [1]),
    Before = held(Path),
    [load_once() || _ <- lists:seq(1, 100)],
    %% Under load all the time, and without a miss.
    unlink(Load),
    exit(Load, kill),
    {ok, Kept, _} = erlmcp_shm_exporter:lookup(resource, <<"kept">>),
    ?assertEqual(large(), Kept),
    ?assertEqual(Exporter, whereis(erlmcp_shm_exporter)),
    nothing_leaked(Path, Before),
    ok.

%% A library that is loaded already cannot be loaded a second time, which Erlang answers so; the old code goes on.
load_once() ->
    ?assertMatch({error, on_load_failure}, code:load_file(?NIF)),
    _ = code:purge(?NIF),
    ok = erlmcp_shm_exporter:export_resource(<<"after">>, <<"a load">>, #{}).

exports(N) ->
    Key = integer_to_binary(N rem 100),
    ok = erlmcp_shm_exporter:export_resource(Key, <<N:64>>, #{}),
    {ok, <<N:64>>, _} = erlmcp_shm_exporter:lookup(resource, Key),
    exports(N + 1).

%%% Purged

purged_with_binaries_held(Config) ->
    in_node(Config, purge).

purge(Path) ->
    Before = held(Path),
    [purge_once(list_to_binary(Path)) || _ <- lists:seq(1, 10)],
    nothing_leaked(Path, Before),
    ok.

%% The code goes while a writer is open, its thread runs, and a binary points into the mapping. Loaded anew, the
%% library knows the old handle no more; once that is let go of, the store is closed and can be opened again.
purge_once(Path) ->
    Writer = open(Path),
    ok = ?NIF:put_dirty(Writer, resource, <<"large">>, large(), #{}),
    {ok, Held, _} = ?NIF:get(Writer, resource, <<"large">>),
    true = code:delete(?NIF),
    _ = code:purge(?NIF),
    garbage_collect(),
    ?assertEqual(large(), Held),
    {module, ?NIF} = code:ensure_loaded(?NIF),
    ?assertError(badarg, ?NIF:stats(Writer)),
    ?assertEqual({error, locked}, ?NIF:open(Path, erlmcp_shm_test:open_options())),
    forget(Path),
    ?assertEqual(large(), Held).

%% Its caller's handle is dead by now.
forget(Path) ->
    garbage_collect(),
    Again = open(Path),
    {ok, Kept, _} = ?NIF:get(Again, resource, <<"large">>),
    ?assertEqual(large(), Kept),
    ok = ?NIF:close(Again).

open(Path) ->
    {ok, Writer} = ?NIF:open(Path, (erlmcp_shm_test:open_options())#{lock_wait => 5000}),
    Writer.

%% The exporter's handle is lost with the code: its next heartbeat ends it, and the supervisor's next one takes the
%% store over as it stands.
purged_under_the_application(Config) ->
    in_node(Config, purge_the_application).

purge_the_application(Path) ->
    _ = application:load(erlmcp_shm),
    ok = application:set_env(erlmcp_shm, claude_flow, #{shared_memory => #{path => Path}}),
    {ok, _} = application:ensure_all_started(erlmcp_shm),
    ok = erlmcp_shm_exporter:export_resource(<<"large">>, large(), #{}),
    Before = held(Path),
    ok = purge_beneath(),
    nothing_leaked(Path, Before),
    ok.

purge_beneath() ->
    Exporter = whereis(erlmcp_shm_exporter),
    true = code:delete(?NIF),
    _ = code:purge(?NIF),
    {module, ?NIF} = code:ensure_loaded(?NIF),
    erlmcp_shm_test:eventually(fun() ->
        is_pid(whereis(erlmcp_shm_exporter)) andalso whereis(erlmcp_shm_exporter) =/= Exporter
    end),
    erlmcp_shm_test:eventually(fun() ->
        erlmcp_shm_exporter:export_resource(<<"again">>, <<"here">>, #{}) =:= ok
    end),
    {ok, Kept, _} = erlmcp_shm_exporter:lookup(resource, <<"large">>),
    ?assertEqual(large(), Kept).

large() -> binary:copy(<<"0123456789">>, ?LARGE div 10).

%% Mappings of the store's files, and descriptors of the process.
held(Path) ->
    {ok, Maps} = file:open("/proc/self/maps", [read, raw, binary, {read_ahead, 1 bsl 16}]),
    Mapped = count_lines(Maps, list_to_binary(Path), 0),
    ok = file:close(Maps),
    {ok, Descriptors} = file:list_dir("/proc/self/fd"),
    {Mapped, length(Descriptors)}.

count_lines(File, Path, N) ->
    case file:read_line(File) of
        {ok, Line} ->
            case binary:match(Line, Path) of
                nomatch -> count_lines(File, Path, N);
                _ -> count_lines(File, Path, N + 1)
            end;
        eof ->
            N
    end.

%% What is retired is unmapped when there is time.
nothing_leaked(Path, {Mapped, Descriptors}) ->
    erlmcp_shm_test:eventually(fun() ->
        [garbage_collect(P) || P <- processes()],
        {M, D} = held(Path),
        M =< Mapped + 1 andalso D =< Descriptors + 1
    end).
