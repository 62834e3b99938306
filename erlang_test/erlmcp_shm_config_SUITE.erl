%% Defaults, refusals by name, and where sys.config is read from.
-module(erlmcp_shm_config_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(C, erlmcp_shm_config).

all() ->
    [
        defaults,
        defaults_follow_size,
        accepted,
        refused,
        refused_in_claude_flow,
        paths,
        idempotent,
        nothing_configured,
        configured_under_erlmcp,
        erlmcp_on_the_code_path,
        ours_wins,
        switched_off,
        start_refused,
        set_at_run_time,
        from_the_command_line,
        command_line_that_fails
    ].

init_per_testcase(Case, Config) ->
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

%%% Tables

defaults(_Config) ->
    Expected = #{
        enabled => true,
        path => <<"/dev/shm/erlmcp_export.bin">>,
        size => 10485760,
        max_size => 83886080,
        flush_interval => 100,
        mode => 8#600,
        recover => keep,
        heartbeat_interval => 100,
        on_locked => stop
    },
    ?assertEqual({ok, Expected}, ?C:exporter(#{})),
    {ok, #{shared_memory := Off} = Flow} = ?C:claude_flow(#{}),
    ?assertEqual(Expected#{enabled := false}, Off),
    ?assertMatch(#{enabled := true, transports := [], auto_failover := true}, Flow),
    ?assertMatch({ok, #{shared_memory := Expected}}, ?C:claude_flow(#{shared_memory => true})),
    ?assertMatch({ok, #{shared_memory := Expected}}, ?C:claude_flow(#{shared_memory => #{}})),
    ?assertMatch({ok, #{shared_memory := Off}}, ?C:claude_flow(#{shared_memory => false})).

defaults_follow_size(_Config) ->
    ?assertMatch({ok, #{size := 4096000, max_size := 32768000}}, ?C:exporter(#{size => 4096000})),
    ?assertMatch({ok, #{max_size := 4096000}}, ?C:exporter(#{size => 4096000, max_size => 4096000})).

accepted(_Config) ->
    Good = [
        {size, 8192},
        {flush_interval, 0},
        {heartbeat_interval, 1},
        {mode, 8#644},
        {mode, 8#640},
        {recover, clear},
        {on_locked, {wait, 0}},
        {on_locked, {wait, 5000}},
        {enabled, false}
    ],
    [?assertMatch({ok, #{Key := Value}}, ?C:exporter(#{Key => Value})) || {Key, Value} <- Good].

%% Each value is refused under the name the user wrote, in both places where it can be written.
refused(_Config) ->
    Bad = [
        {enabled, 1},
        {enabled, undefined},
        {path, ""},
        {path, <<>>},
        {path, undefined},
        {path, "with\0nul"},
        {path, [$a, -1]},
        {shm_path, 17},
        {size, 0},
        {size, 8191},
        {size, -1},
        {size, 1.0},
        {size, "10MB"},
        {size, 1 bsl 64},
        {max_size, 10485759},
        {max_size, infinity},
        {flush_interval, -1},
        {flush_interval, infinity},
        {flush_interval, 1 bsl 32},
        {heartbeat_interval, 0},
        {mode, 8#666},
        {mode, 8#620},
        {mode, 8#602},
        {mode, 8#444},
        {mode, 8#10600},
        {mode, -1},
        {mode, <<"0600">>},
        {recover, true},
        {on_locked, wait},
        {on_locked, {wait, -1}},
        {on_locked, {wait, infinity}},
        {unknown, value},
        {<<"size">>, 1}
    ],
    [
        begin
            Expected = {error, {bad_config, [shared_memory, Key], Value}},
            ?assertEqual(Expected, ?C:exporter(#{Key => Value})),
            ?assertEqual(Expected, ?C:claude_flow(#{shared_memory => #{Key => Value}})),
            ?assertEqual(Expected, erlmcp_shm_exporter:start_link(#{Key => Value}))
        end
     || {Key, Value} <- Bad
    ],
    ?assertEqual(
        {error, {bad_config, [shared_memory, shm_path], "b"}}, ?C:exporter(#{path => "a", shm_path => "b"})
    ).

refused_in_claude_flow(_Config) ->
    Bad = [
        {#{share_memory => true}, [share_memory], true},
        {#{enabled => yes}, [enabled], yes},
        {#{shared_memory => on}, [shared_memory], on},
        {#{shared_memory => []}, [shared_memory], []},
        {[{shared_memory, true}], [claude_flow], [{shared_memory, true}]}
    ],
    [?assertEqual({error, {bad_config, Path, Value}}, ?C:claude_flow(Map)) || {Map, Path, Value} <- Bad].

paths(_Config) ->
    {ok, Cwd} = file:get_cwd(),
    InCwd = fun(Name) -> unicode:characters_to_binary(filename:join(Cwd, Name)) end,
    ?assertEqual({ok, <<"/a/b">>}, ?C:path("/a/b")),
    ?assertEqual({ok, <<"/a/b">>}, ?C:path(<<"/a/b">>)),
    ?assertEqual({ok, InCwd("b")}, ?C:path("b")),
    ?assertEqual({ok, InCwd("b")}, ?C:path(<<"b">>)),
    %% Bytes that are no text are a file name too.
    ?assertEqual({ok, <<"/a/", 255>>}, ?C:path(<<"/a/", 255>>)),
    [?assertEqual(error, ?C:path(Bad)) || Bad <- [path, 1, <<1:1>>, {}, ["a" | b], [self()]]].

%% What was checked passes again, unchanged: the supervisor hands it to the exporter's own check.
idempotent(_Config) ->
    {ok, Config} = ?C:exporter(#{path => "relative", size => 8192, on_locked => {wait, 1}}),
    ?assertEqual({ok, Config}, ?C:exporter(Config)).

%%% sys.config, each in a node of its own

nothing_configured(_Config) ->
    in_node([], fun(Peer) ->
        {ok, Started} = call(Peer, erlmcp_shm, start, []),
        ?assert(lists:member(erlmcp_shm, Started)),
        ?assertEqual({error, not_started}, call(Peer, erlmcp_shm_exporter, info, [])),
        ?assertEqual([], call(Peer, supervisor, which_children, [erlmcp_shm_sup])),
        ok = call(Peer, erlmcp_shm, stop, [])
    end).

%% No application erlmcp anywhere, as in a node that only names it in sys.config.
configured_under_erlmcp(Config) ->
    Path = erlmcp_shm_test:path(Config),
    SysConfig = [{erlmcp, [{claude_flow, #{shared_memory => shared_memory(Path)}}]}],
    in_node(args(Config, SysConfig), fun(Peer) ->
        ?assertEqual(undefined, call(Peer, application, get_env, [erlmcp, claude_flow])),
        {ok, _} = call(Peer, erlmcp_shm, start, []),
        publishes(Peer, Path),
        %% The name is free for the real one.
        Loaded = call(Peer, application, loaded_applications, []),
        ?assertNot(lists:keymember(erlmcp, 1, Loaded)),
        ok = call(Peer, erlmcp_shm, stop, []),
        {ok, _} = call(Peer, erlmcp_shm, start, []),
        publishes(Peer, Path)
    end).

erlmcp_on_the_code_path(Config) ->
    Path = erlmcp_shm_test:path(Config),
    Ebin = filename:join([proplists:get_value(priv_dir, Config), "erlmcp", "ebin"]),
    App = {application, erlmcp, [{vsn, "1"}, {applications, [kernel, stdlib]}, {env, [{claude_flow, #{}}]}]},
    File = filename:join(Ebin, "erlmcp.app"),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, io_lib:format("~p.~n", [App])),
    SysConfig = [{erlmcp, [{claude_flow, #{shared_memory => shared_memory(Path)}}]}],
    in_node(["-pa", Ebin | args(Config, SysConfig)], fun(Peer) ->
        {ok, _} = call(Peer, erlmcp_shm, start, []),
        publishes(Peer, Path),
        Loaded = call(Peer, application, loaded_applications, []),
        ?assertMatch({_, _, "1"}, lists:keyfind(erlmcp, 1, Loaded)),
        {ok, _} = call(Peer, application, ensure_all_started, [erlmcp])
    end).

ours_wins(Config) ->
    Path = erlmcp_shm_test:path(Config),
    SysConfig = [
        {erlmcp, [{claude_flow, #{shared_memory => shared_memory(Path ++ ".theirs")}}]},
        {erlmcp_shm, [{claude_flow, #{shared_memory => shared_memory(Path)}}]}
    ],
    in_node(args(Config, SysConfig), fun(Peer) ->
        {ok, _} = call(Peer, erlmcp_shm, start, []),
        publishes(Peer, Path)
    end).

switched_off(Config) ->
    Path = erlmcp_shm_test:path(Config),
    On = shared_memory(Path),
    [
        in_node(args(Config, [{erlmcp_shm, [{claude_flow, Flow}]}]), fun(Peer) ->
            {ok, _} = call(Peer, erlmcp_shm, start, []),
            ?assertEqual({error, not_started}, call(Peer, erlmcp_shm_exporter, info, [])),
            ?assertNot(filelib:is_file(Path))
        end)
     || Flow <- [
            #{enabled => false, shared_memory => On},
            #{shared_memory => On#{enabled => false}},
            #{shared_memory => false},
            #{}
        ]
    ].

start_refused(Config) ->
    Path = erlmcp_shm_test:path(Config),
    SysConfig = [{erlmcp, [{claude_flow, #{shared_memory => #{path => Path, size => "10MB"}}}]}],
    in_node(args(Config, SysConfig), fun(Peer) ->
        ?assertMatch(
            {error, {erlmcp_shm, {{bad_config, [shared_memory, size], "10MB"}, _}}},
            call(Peer, erlmcp_shm, start, [])
        ),
        ?assertNot(filelib:is_file(Path))
    end),
    NoFolder = filename:join(Path, "no_folder.shm"),
    in_node(args(Config, [{erlmcp_shm, [{claude_flow, #{shared_memory => shared_memory(NoFolder)}}]}]), fun(Peer) ->
        {error, {erlmcp_shm, {Reason, _}}} = call(Peer, erlmcp_shm, start, []),
        ?assertMatch(
            {shutdown, {failed_to_start_child, erlmcp_shm_exporter, {failed_to_create_shm, enoent}}}, Reason
        )
    end).

set_at_run_time(Config) ->
    Path = erlmcp_shm_test:path(Config),
    in_node([], fun(Peer) ->
        ok = call(Peer, application, set_env, [erlmcp, claude_flow, #{shared_memory => shared_memory(Path)}]),
        {ok, _} = call(Peer, erlmcp_shm, start, []),
        publishes(Peer, Path)
    end).

%% As the deployment guide tells it: -config FILE -s erlmcp_shm.
from_the_command_line(Config) ->
    Path = erlmcp_shm_test:path(Config),
    SysConfig = [{erlmcp, [{claude_flow, #{shared_memory => shared_memory(Path)}}]}],
    in_node(args(Config, SysConfig) ++ ["-s", "erlmcp_shm"], fun(Peer) ->
        %% The node answers before its -s has run.
        erlmcp_shm_test:eventually(fun() -> is_map(call(Peer, erlmcp_shm_exporter, info, [])) end),
        publishes(Peer, Path)
    end).

%% A node that has nothing to do is not left running: whoever started it is told.
command_line_that_fails(Config) ->
    Path = erlmcp_shm_test:path(Config),
    _ = erlmcp_shm_test:start(#{path => Path, size => 1 bsl 20}),
    Erl = os:find_executable("erl"),
    Args = fun(SharedMemory) ->
        ["-noinput", "-pa", filename:dirname(code:which(erlmcp_shm))] ++
            args(Config, [{erlmcp_shm, [{claude_flow, #{shared_memory => SharedMemory}}]}]) ++ ["-s", "erlmcp_shm"]
    end,
    [
        begin
            {Status, Said} = erlmcp_shm_test:run(Erl, Args(SharedMemory), [stderr_to_stdout]),
            ?assertMatch({1, {match, _}}, {Status, re:run(Said, Reason)}, Said)
        end
     || {SharedMemory, Reason} <- [{#{size => "10MB"}, "bad_config"}, {shared_memory(Path), "locked"}]
    ],
    %% Who can look at what it gets does so, in the same process as well.
    Look = "{error, _} = erlmcp_shm:start(), io:put_chars(\"looked\"), halt(7).",
    {7, Looked} = erlmcp_shm_test:run(Erl, lists:droplast(lists:droplast(Args(shared_memory(Path)))) ++ ["-eval", Look]),
    ?assertMatch({match, _}, re:run(Looked, "looked")),
    erlmcp_shm_test:stop().

%%%

shared_memory(Path) ->
    #{enabled => true, path => Path, size => 1 bsl 20, flush_interval => 100}.

publishes(Peer, Path) ->
    ok = call(Peer, erlmcp_shm_exporter, export_resource, [<<"k">>, <<"v">>, #{}]),
    Binary = list_to_binary(Path),
    ?assertMatch(#{path := Binary, entries := 1}, call(Peer, erlmcp_shm_exporter, info, [])).

args(Config, SysConfig) ->
    File = erlmcp_shm_test:path(Config) ++ ".config",
    ok = file:write_file(File, io_lib:format("~p.~n", [SysConfig])),
    ["-config", filename:rootname(File)].

in_node(Args, Fun) ->
    Peer = erlmcp_shm_test:start_node(Args),
    try
        Fun(Peer)
    after
        erlmcp_shm_test:stop_node(Peer)
    end.

call(Peer, M, F, A) ->
    erlmcp_shm_test:call(Peer, M, F, A).
