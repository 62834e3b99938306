%% Who holds the file: through crashes, restarts and stops of the exporter.
-module(erlmcp_shm_restart_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(erlmcp_shm_test, [path/1, eventually/1, start_node/0, call/4]).

-define(E, erlmcp_shm_exporter).

all() ->
    [
        kill_keeps_data_and_lock,
        kills_under_load,
        crash_limit_lets_go,
        clears_once,
        other_arguments,
        other_arguments_clear,
        failed_writer_is_reopened,
        stops_under_large_exports,
        stop_lets_go,
        shutdown_lets_go,
        parent_that_ends,
        parent_that_crashes,
        application_stop_lets_go,
        application_stop_under_another_supervisor
    ].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

options(Config) ->
    #{path => path(Config), size => 1 bsl 20}.

%% The application with an exporter, as from sys.config.
start_application(Options) ->
    application:set_env(erlmcp_shm, claude_flow, #{shared_memory => Options}),
    {ok, _} = erlmcp_shm:start(),
    whereis(?E).

kill(Pid) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

publish(Key, Value) ->
    ?E:export_resource(Key, Value, #{}).

data(Key) ->
    case ?E:lookup(resource, Key) of
        {ok, Data, _} -> Data;
        {error, Reason} -> Reason
    end.

version(Key) ->
    {ok, _, #{version := Version}} = ?E:lookup(resource, Key),
    Version.

%% Another node on this host tries to become the writer.
open_elsewhere(Options) ->
    Peer = start_node(),
    try
        call(Peer, erlmcp_shm_test, start_unlinked, [Options])
    after
        erlmcp_shm_test:stop_node(Peer)
    end.

locked_elsewhere(Options) ->
    ?assertEqual({error, {failed_to_create_shm, locked}}, open_elsewhere(Options)).

free_elsewhere(Options) ->
    ?assertEqual(ok, open_elsewhere(Options)).

%%% Crashes

kill_keeps_data_and_lock(Config) ->
    Options = options(Config),
    Pid = erlmcp_shm_test:start(Options),
    ok = publish(<<"k">>, <<"v">>),
    Version = version(<<"k">>),
    kill(Pid),
    ?assertEqual({error, not_started}, publish(<<"k">>, <<"w">>)),
    locked_elsewhere(Options),
    Generation = begin
        _ = erlmcp_shm_test:start(Options),
        maps:get(generation, ?E:info())
    end,
    ?assertEqual(<<"v">>, data(<<"k">>)),
    ?assertEqual(Version, version(<<"k">>)),
    %% Adopted, not opened again: the counters of the writer went on.
    ?assertMatch(#{puts := 1, generation := Generation}, ?E:info()),
    ok = publish(<<"k">>, <<"w">>),
    ?assert(version(<<"k">>) > Version).

%% Four callers write while the exporter is killed twenty times. They meet `not_started' and nothing
%% else; and what was answered `ok' is there at the end, for a reader of its own as well.
kills_under_load(Config) ->
    Options = (options(Config))#{size => 1 bsl 22, flush_interval => 1},
    _ = start_application(Options),
    Self = self(),
    Callers = [spawn_link(fun() -> caller(Self, C, 0, #{}) end) || C <- lists:seq(1, 4)],
    [
        begin
            Pid = whereis(?E),
            kill(Pid),
            eventually(fun() -> not lists:member(whereis(?E), [undefined, Pid]) end),
            timer:sleep(10)
        end
     || _ <- lists:seq(1, 20)
    ],
    [Pid ! stop || Pid <- Callers],
    {ok, Reader} = erlmcp_shm_reader:open(path(Config)),
    Told = lists:sum([
        receive
            {told, Pid, Count, Last} ->
                _ = [
                    begin
                        ?assertEqual(Value, data(Key)),
                        ?assertMatch({ok, Value, _}, erlmcp_shm_reader:lookup(Reader, resource, Key))
                    end
                 || {Key, Value} <- maps:to_list(Last)
                ],
                Count;
            {'EXIT', Pid, Reason} ->
                error(Reason)
        end
     || Pid <- Callers
    ]),
    ok = erlmcp_shm_reader:close(Reader),
    ct:pal("~p exports answered ok across 20 kills", [Told]),
    ?assert(Told > 1000).

caller(Parent, C, N, Last) ->
    Key = <<"caller ", C, (N rem 50)>>,
    Value = binary:copy(<<C, N:32>>, 1 + N rem 100),
    receive
        stop -> Parent ! {told, self(), N, Last}
    after 0 ->
        case publish(Key, Value) of
            ok ->
                caller(Parent, C, N + 1, Last#{Key => Value});
            {error, not_started} ->
                erlang:yield(),
                caller(Parent, C, N, Last)
        end
    end.

%% An exporter that keeps crashing takes the application down, and then the lock is free.
crash_limit_lets_go(Config) ->
    Options = options(Config),
    _ = start_application(Options),
    Sup = monitor(process, erlmcp_shm_sup),
    kill_until(Sup, 200),
    eventually(fun() -> not lists:keymember(erlmcp_shm, 1, application:which_applications()) end),
    eventually(fun() -> erlmcp_shm_writer:held() =:= undefined end),
    free_elsewhere(Options).

kill_until(_Monitor, 0) ->
    error(still_restarted);
kill_until(Monitor, N) ->
    receive
        {'DOWN', Monitor, process, _, _} -> ok
    after 5 ->
        [exit(Pid, kill) || Pid <- [whereis(?E)], is_pid(Pid)],
        kill_until(Monitor, N - 1)
    end.

clears_once(Config) ->
    Options = (options(Config))#{recover => clear},
    Pid = erlmcp_shm_test:start(Options),
    ok = publish(<<"k">>, <<"v">>),
    Version = version(<<"k">>),
    kill(Pid),
    Again = erlmcp_shm_test:start(Options),
    ?assertEqual(<<"v">>, data(<<"k">>)),
    ok = gen_server:stop(Again),
    _ = erlmcp_shm_test:start(Options),
    ?assertEqual(not_found, data(<<"k">>)),
    ok = publish(<<"k">>, <<"w">>),
    ?assert(version(<<"k">>) > Version).

other_arguments(Config) ->
    Options = options(Config),
    Other = Options#{path => path(Config) ++ ".other"},
    Pid = erlmcp_shm_test:start(Options),
    ok = publish(<<"k">>, <<"v">>),
    kill(Pid),
    Second = erlmcp_shm_test:start(Other),
    ?assertEqual(not_found, data(<<"k">>)),
    free_elsewhere(Options),
    kill(Second),
    _ = erlmcp_shm_test:start(Options#{flush_interval => 0}),
    ?assertEqual(<<"v">>, data(<<"k">>)),
    free_elsewhere(Other).

other_arguments_clear(Config) ->
    Options = options(Config),
    Pid = erlmcp_shm_test:start(Options),
    ok = publish(<<"k">>, <<"v">>),
    Version = version(<<"k">>),
    kill(Pid),
    _ = erlmcp_shm_test:start(Options#{recover => clear}),
    ?assertEqual(not_found, data(<<"k">>)),
    ok = publish(<<"k">>, <<"v">>),
    ?assert(version(<<"k">>) > Version).

%% A writer that no heartbeat can mend, here because it was closed behind the exporter's back: the
%% exporter crashes, and its next incarnation opens another with all that was published.
failed_writer_is_reopened(Config) ->
    Pid = start_application((options(Config))#{recover => clear}),
    ok = publish(<<"k">>, <<"v">>),
    {Writer, _} = erlmcp_shm_writer:held(),
    ok = erlmcp_shm_nif:close(Writer),
    eventually(fun() -> whereis(?E) =/= Pid andalso data(<<"k">>) =:= <<"v">> end),
    ok = publish(<<"k">>, <<"w">>),
    ?assertEqual(<<"w">>, data(<<"k">>)).

%% Callers are in dirty calls with large values while the writer is closed and let go of, by a stop or by a
%% start with other options after a kill. Such a node died once: its writer was freed under the calls.
stops_under_large_exports(Config) ->
    Peer = start_node(),
    ?assertEqual(ok, call(Peer, ?MODULE, stops, [options(Config), 300])),
    erlmcp_shm_test:stop_node(Peer).

stops(#{path := Path} = Options, Rounds) ->
    process_flag(trap_exit, true),
    Value = binary:copy(<<"v">>, 300000),
    Callers = [spawn_link(fun() -> large_exports(Value) end) || _ <- lists:seq(1, 8)],
    [
        begin
            Pid = erlmcp_shm_test:start(Options#{path := Path ++ integer_to_list(N rem 2)}),
            timer:sleep(N rem 5),
            case N rem 3 of
                0 -> ok = gen_server:stop(Pid);
                _ -> kill(Pid)
            end
        end
     || N <- lists:seq(1, Rounds)
    ],
    [exit(Pid, stop) || Pid <- Callers],
    %% None of them has ended by itself.
    [receive {'EXIT', Pid, Reason} -> ?assertEqual(stop, Reason) end || Pid <- Callers],
    ok.

large_exports(Value) ->
    case publish(<<"large">>, Value) of
        ok -> ok;
        {error, not_started} -> erlang:yield();
        {error, closed} -> ok
    end,
    large_exports(Value).

%%% Orderly ends

stop_lets_go(Config) ->
    Options = options(Config),
    _ = erlmcp_shm_test:start(Options),
    locked_elsewhere(Options),
    ok = gen_server:stop(?E),
    free_elsewhere(Options),
    ?assert(filelib:is_regular(path(Config))).

shutdown_lets_go(Config) ->
    Options = options(Config),
    [
        begin
            Pid = erlmcp_shm_test:start(Options),
            Monitor = monitor(process, Pid),
            exit(Pid, Reason),
            receive
                {'DOWN', Monitor, process, Pid, Reason} -> ok
            end,
            ?assertEqual(undefined, erlmcp_shm_writer:held())
        end
     || Reason <- [shutdown, {shutdown, maintenance}]
    ],
    free_elsewhere(Options).

parent_that_ends(Config) ->
    Options = options(Config),
    {Parent, Monitor} = spawn_monitor(fun() -> erlmcp_shm_test:start(Options) end),
    receive
        {'DOWN', Monitor, process, Parent, Reason} -> ?assertEqual(normal, Reason)
    end,
    eventually(fun() -> whereis(?E) =:= undefined end),
    free_elsewhere(Options).

parent_that_crashes(Config) ->
    Options = options(Config),
    Self = self(),
    {Parent, Monitor} = spawn_monitor(fun() ->
        _ = erlmcp_shm_test:start(Options),
        ok = publish(<<"k">>, <<"v">>),
        Self ! ready,
        timer:sleep(infinity)
    end),
    receive
        ready -> exit(Parent, kill)
    end,
    receive
        {'DOWN', Monitor, process, Parent, killed} -> ok
    end,
    eventually(fun() -> whereis(?E) =:= undefined end),
    locked_elsewhere(Options),
    _ = erlmcp_shm_test:start(Options),
    ?assertEqual(<<"v">>, data(<<"k">>)).

application_stop_lets_go(Config) ->
    Options = options(Config),
    Pid = start_application(Options),
    ok = publish(<<"k">>, <<"v">>),
    locked_elsewhere(Options),
    ok = erlmcp_shm:stop(),
    ?assertEqual({error, not_started}, ?E:lookup(resource, <<"k">>)),
    free_elsewhere(Options),
    Again = start_application(Options),
    ?assertNotEqual(Pid, Again),
    ?assertEqual(<<"v">>, data(<<"k">>)).

%% An exporter started elsewhere, and one that crashed there: neither keeps the lock.
application_stop_under_another_supervisor(Config) ->
    Options = options(Config),
    {ok, _} = erlmcp_shm:start(),
    _ = erlmcp_shm_test:start(Options),
    ok = erlmcp_shm:stop(),
    ?assertEqual(undefined, whereis(?E)),
    free_elsewhere(Options),
    {ok, _} = erlmcp_shm:start(),
    kill(erlmcp_shm_test:start(Options)),
    locked_elsewhere(Options),
    ok = erlmcp_shm:stop(),
    free_elsewhere(Options).
