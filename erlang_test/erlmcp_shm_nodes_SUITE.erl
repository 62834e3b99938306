%% Two nodes and one file; and a file that somebody removes.
-module(erlmcp_shm_nodes_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(E, erlmcp_shm_exporter).

all() ->
    [
        node_killed,
        locked,
        waiting_for_the_lock,
        waiting_in_vain,
        path_lost_is_logged_once
    ].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

options(Config) ->
    #{path => erlmcp_shm_test:path(Config), size => 1 bsl 20}.

data(Key) ->
    {ok, Data, _} = ?E:lookup(resource, Key),
    Data.

node_killed(Config) ->
    Options = options(Config),
    First = erlmcp_shm_test:start_node(),
    ok = erlmcp_shm_test:call(First, erlmcp_shm_test, start_unlinked, [Options]),
    Keys = [<<"key ", (integer_to_binary(N))/binary>> || N <- lists:seq(1, 500)],
    [ok = erlmcp_shm_test:call(First, ?E, export_resource, [K, <<K/binary, " value">>, #{}]) || K <- Keys],
    ok = erlmcp_shm_test:call(First, ?E, invalidate, [resource, hd(Keys)]),
    {ok, _, #{version := Version}} = erlmcp_shm_test:call(First, ?E, lookup, [resource, lists:last(Keys)]),
    ok = erlmcp_shm_test:kill_node(First),
    Second = erlmcp_shm_test:start_node(),
    ok = erlmcp_shm_test:call(Second, erlmcp_shm_test, start_unlinked, [Options]),
    ?assertEqual({error, not_found}, erlmcp_shm_test:call(Second, ?E, lookup, [resource, hd(Keys)])),
    [
        {ok, <<K:(byte_size(K))/binary, " value">>, _} = erlmcp_shm_test:call(Second, ?E, lookup, [resource, K])
     || K <- tl(Keys)
    ],
    ok = erlmcp_shm_test:call(Second, ?E, export_resource, [<<"new">>, <<>>, #{}]),
    {ok, _, #{version := Newer}} = erlmcp_shm_test:call(Second, ?E, lookup, [resource, <<"new">>]),
    ?assert(Newer > Version),
    erlmcp_shm_test:stop_node(Second).

locked(Config) ->
    Options = options(Config),
    Other = erlmcp_shm_test:start_node(),
    ok = erlmcp_shm_test:call(Other, erlmcp_shm_test, start_unlinked, [Options]),
    ok = erlmcp_shm_test:call(Other, ?E, export_resource, [<<"k">>, <<"v">>, #{}]),
    ?assertEqual({error, {failed_to_create_shm, locked}}, ?E:start_link(Options)),
    ?assertEqual({error, not_started}, ?E:info()),
    %% What it publishes is there for this node's readers all the same.
    {ok, Reader} = erlmcp_shm_reader:open(erlmcp_shm_test:path(Config)),
    ?assertMatch({ok, <<"v">>, _}, erlmcp_shm_reader:lookup(Reader, resource, <<"k">>)),
    ok = erlmcp_shm_reader:close(Reader),
    erlmcp_shm_test:kill_node(Other),
    _ = erlmcp_shm_test:start(Options),
    ?assertEqual(<<"v">>, data(<<"k">>)).

waiting_for_the_lock(Config) ->
    Options = options(Config),
    Other = erlmcp_shm_test:start_node(),
    ok = erlmcp_shm_test:call(Other, erlmcp_shm_test, start_unlinked, [Options]),
    Self = self(),
    spawn_link(fun() ->
        _ = erlmcp_shm_test:start(Options#{on_locked => {wait, 20000}}),
        Self ! started,
        timer:sleep(infinity)
    end),
    receive
        started -> error(two_writers)
    after 500 -> ok
    end,
    ?assertEqual({error, not_started}, ?E:export_resource(<<"k">>, <<"too early">>, #{})),
    ok = erlmcp_shm_test:call(Other, ?E, export_resource, [<<"k">>, <<"last">>, #{}]),
    ok = erlmcp_shm_test:call(Other, gen_server, stop, [?E]),
    receive
        started -> ok
    after 10000 -> error(still_waiting)
    end,
    ?assertEqual(<<"last">>, data(<<"k">>)),
    erlmcp_shm_test:stop_node(Other).

waiting_in_vain(Config) ->
    Options = options(Config),
    Other = erlmcp_shm_test:start_node(),
    ok = erlmcp_shm_test:call(Other, erlmcp_shm_test, start_unlinked, [Options]),
    {Us, Result} = timer:tc(fun() -> ?E:start_link(Options#{on_locked => {wait, 300}}) end),
    ?assertEqual({error, {failed_to_create_shm, locked}}, Result),
    ?assert(Us >= 300000),
    erlmcp_shm_test:stop_node(Other).

%%% Troubles

%% Somebody removes the file with its folder: one line in the log, not one per heartbeat, and one when the
%% folder is there again. Then everything is, in a file that is made anew.
path_lost_is_logged_once(Config) ->
    #{path := Path} = Options = options(Config),
    Folder = Path ++ ".folder",
    Lost = filename:join(Folder, "export.shm"),
    ok = file:make_dir(Folder),
    _ = erlmcp_shm_test:start(Options#{path := Lost, heartbeat_interval => 10}),
    ok = ?E:export_resource(<<"k">>, <<"v">>, #{}),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    ok = logger:set_module_level(?E, notice),
    try
        ok = file:del_dir_r(Folder),
        heartbeat_is(path_lost),
        receive
            {logged, #{what := heartbeat, trouble := Again}} -> error({logged_again, Again})
        after 300 -> ok
        end,
        ok = file:make_dir(Folder),
        heartbeat_is(none),
        {ok, Reader} = erlmcp_shm_reader:open(Lost),
        ?assertMatch({ok, <<"v">>, _}, erlmcp_shm_reader:lookup(Reader, resource, <<"k">>)),
        ok = erlmcp_shm_reader:close(Reader)
    after
        logger:unset_module_level(?E),
        logger:remove_handler(?MODULE)
    end.

heartbeat_is(Trouble) ->
    receive
        {logged, #{what := heartbeat, trouble := Trouble}} -> ok
    after 10000 -> error({not_logged, Trouble})
    end.

log(#{msg := {report, Report}}, #{config := Pid}) ->
    Pid ! {logged, Report};
log(_Event, _Config) ->
    ok.
