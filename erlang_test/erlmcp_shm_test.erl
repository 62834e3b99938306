%% What the suites share: files of their own, other nodes, the real binary.
-module(erlmcp_shm_test).

-export([
    path/1,
    start/1,
    start_unlinked/1,
    stop/0,
    stop/1,
    open/1,
    open/2,
    open_options/0,
    put/5,
    eventually/1,
    start_node/0,
    start_node/1,
    call/4,
    kill_node/1,
    stop_node/1,
    project_file/1,
    binary/1,
    run/2,
    run/3
]).

%% A path of its own for each case.
path(Config) ->
    %% Suites share the folder, and may have cases of one name; the log's name has both.
    Suite = filename:basename(proplists:get_value(tc_logfile, Config, ""), ".html"),
    Case = atom_to_list(proplists:get_value(case_name, Config)),
    filename:join(proplists:get_value(priv_dir, Config), lists:concat([Suite, "-", Case, ".shm"])).

start(Options) ->
    {ok, Pid} = erlmcp_shm_exporter:start_link(Options),
    Pid.

%% For calls into another node, where the calling process does not last.
start_unlinked(Options) ->
    process_flag(trap_exit, true),
    case erlmcp_shm_exporter:start_link(Options) of
        {ok, Pid} ->
            unlink(Pid),
            ok;
        Other ->
            Other
    end.

%% Leaves nothing behind, however the case ended.
stop() ->
    _ = application:stop(erlmcp_shm),
    _ = application:unset_env(erlmcp_shm, claude_flow),
    stop(erlmcp_shm_exporter),
    erlmcp_shm_writer:release().

%% Where it does not run, or ends by itself meanwhile, there is nothing to stop.
stop(Server) ->
    try
        gen_server:stop(Server)
    catch
        exit:_ -> ok
    end.

%%% The native functions by themselves

open(Config) ->
    open(Config, #{}).

open(Config, Options) ->
    {ok, Writer} = erlmcp_shm_nif:open(list_to_binary(path(Config)), maps:merge(open_options(), Options)),
    Writer.

open_options() ->
    #{
        size => 1 bsl 20,
        max_size => 1 bsl 26,
        mode => 8#600,
        recover => keep,
        lock_wait => 0,
        heartbeat_interval => 100
    }.

%% As the exporter does it.
put(Writer, Kind, Key, Data, Metadata) ->
    case erlmcp_shm_nif:put(Writer, Kind, Key, Data, Metadata) of
        busy -> erlmcp_shm_nif:put_dirty(Writer, Kind, Key, Data, Metadata);
        Result -> Result
    end.

%% Waits until the fun says true, for ten seconds at most.
eventually(Fun) ->
    eventually(Fun, 1000).

eventually(Fun, 0) ->
    error({never, Fun});
eventually(Fun, N) ->
    case Fun() of
        true ->
            ok;
        false ->
            timer:sleep(10),
            eventually(Fun, N - 1)
    end.

%%% Other nodes: OS processes, controlled over their stdin and stdout

start_node() ->
    start_node([]).

start_node(Args) ->
    Paths = lists:append([["-pa", Dir] || Dir <- [ebin(erlmcp_shm_exporter), ebin(?MODULE)]]),
    {ok, Peer, _} = peer:start(#{connection => standard_io, args => Paths ++ Args}),
    Peer.

ebin(Module) ->
    filename:dirname(code:which(Module)).

call(Peer, M, F, A) ->
    peer:call(Peer, M, F, A, 120000).

%% SIGKILL: no handler runs, no terminate/2, nothing is flushed.
kill_node(Peer) ->
    Os = peer:call(Peer, os, getpid, []),
    Monitor = monitor(process, Peer),
    "" = os:cmd("kill -9 " ++ Os),
    receive
        {'DOWN', Monitor, process, Peer, _} -> ok
    after 10000 -> error(still_alive)
    end.

%% Until the OS process is gone, and what it held with it.
stop_node(Peer) ->
    Os = peer:call(Peer, os, getpid, []),
    ok = peer:stop(Peer),
    eventually(fun() -> os:cmd("kill -0 " ++ Os ++ " 2>/dev/null || echo gone") =/= "" end).

%%% Files of the project, and its commands

%% Wherever the suites were compiled to, they are below the project's folder.
project_file(Relative) ->
    project_file(Relative, filename:absname(ebin(?MODULE))).

project_file(_Relative, "/") ->
    error;
project_file(Relative, Dir) ->
    File = filename:join(Dir, Relative),
    case filelib:is_file(File) of
        true -> {ok, File};
        false -> project_file(Relative, filename:dirname(Dir))
    end.

%% A command where cargo put it. The hook before the suites builds them all: one that is not there is a
%% failure, not something to pass by.
binary(Name) ->
    Target = os:getenv("CARGO_TARGET_DIR", "target"),
    {ok, _} = project_file(filename:join([Target, "release", Name])).

%% Exit status and stdout; stderr goes to the log of the test run.
run(File, Args) ->
    run(File, Args, []).

run(File, Args, Options) ->
    Port = open_port({spawn_executable, File}, [{args, Args}, binary, exit_status | Options]),
    collect(Port, []).

collect(Port, Acc) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Acc, Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Acc)}
    after 60000 ->
        error({timeout, iolist_to_binary(Acc)})
    end.
