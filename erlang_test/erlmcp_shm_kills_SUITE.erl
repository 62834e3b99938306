%% A node killed under load, again and again, and one that is stopped: read by another process all the while. Nothing is
%% torn, nothing lost whose export had returned, and the next start needs no help. NODE_KILLS says how often.
-module(erlmcp_shm_kills_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(E, erlmcp_shm_exporter).
-define(R, erlmcp_shm_reader).
%% Processes that export side by side, each a key of its own.
-define(EXPORTERS, 4).

all() -> [killed_under_load, stopped].

init_per_testcase(Case, Config) ->
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    ok.

%%% Killed

killed_under_load(Config) ->
    Path = erlmcp_shm_test:path(Config),
    Kills = list_to_integer(os:getenv("NODE_KILLS", "10")),
    %% What each key was at least acknowledged to hold.
    Nothing = maps:from_list([{N, 0} || N <- numbers()]),
    {Last, Times} = lists:foldl(fun(Round, Before) -> killed(Path, Round, Before) end, {Nothing, []}, lists:seq(1, Kills)),
    {Boots, Reads} = lists:unzip(Times),
    %% To the terminal: the readable output of rebar3 shows no ct:pal of a case that passed.
    io:format(
        user,
        "~p kills of a node, ~p exports acknowledged, 0 torn, 0 lost~n"
        "ms from the call that starts the exporter to the first good read: p50 ~.1f, p99 ~.1f~n"
        "ms of the virtual machine's own boot before that: p50 ~.1f, p99 ~.1f~n",
        [Kills, lists:sum(maps:values(Last)), rank(Reads, 50), rank(Reads, 99), rank(Boots, 50), rank(Boots, 99)]
    ).

%% One node's life, begun on what the last one left.
killed(Path, Round, {Acknowledged, Times}) ->
    T0 = now_ms(),
    Node = erlmcp_shm_test:start_node(),
    T1 = now_ms(),
    ok = erlmcp_shm_test:call(Node, erlmcp_shm_test, start_unlinked, [#{path => Path, size => 1 bsl 20}]),
    {ok, Reader} = ?R:open(Path),
    Found = look(Reader, Acknowledged),
    T2 = now_ms(),
    ok = erlmcp_shm_test:call(Node, ?MODULE, load, [Path, Found]),
    timer:sleep(20 + Round * 37 rem 200),
    ok = erlmcp_shm_test:kill_node(Node),
    Now = maps:map(fun(N, Before) -> max(Before, acknowledged(Path, N)) end, Found),
    After = look(Reader, Now),
    ok = ?R:close(Reader),
    {After, [{T1 - T0, T2 - T1} | Times]}.

%% Each key holds what was acknowledged, or the one export more that was in flight.
look(Reader, Acknowledged) ->
    maps:map(
        fun(N, Least) ->
            case ?R:lookup(Reader, resource, key(N)) of
                {ok, <<N:64, Counter:64, Fill/binary>>, _} ->
                    ?assertEqual(fill(Counter), Fill),
                    ?assert(Counter =:= Least orelse Counter =:= Least + 1),
                    Counter;
                {error, not_found} ->
                    ?assertEqual(0, Least),
                    0
            end
        end,
        Acknowledged
    ).

%% On the node: exports without end, and writes down each one that returned.
load(Path, From) ->
    [spawn(?MODULE, exports, [Path, N, Counter + 1]) || {N, Counter} <- maps:to_list(From)],
    ok.

exports(Path, N, From) ->
    {ok, File} = file:open(acknowledgements(Path, N), [write, raw, binary]),
    exports_to(File, N, From).

exports_to(File, N, Counter) ->
    Value = <<N:64, Counter:64, (fill(Counter))/binary>>,
    ok = ?E:export_resource(key(N), Value, #{}),
    ok = file:write(File, <<Counter:64>>),
    exports_to(File, N, Counter + 1).

acknowledged(Path, N) ->
    case file:read_file(acknowledgements(Path, N)) of
        {ok, Written} when byte_size(Written) >= 8 ->
            Whole = byte_size(Written) div 8 * 8,
            binary:decode_unsigned(binary:part(Written, Whole - 8, 8));
        _ ->
            0
    end.

acknowledgements(Path, N) -> Path ++ ".acknowledged-" ++ integer_to_list(N).

numbers() -> lists:seq(1, ?EXPORTERS).

key(N) -> <<"key/", (integer_to_binary(N))/binary>>.

fill(Counter) -> binary:copy(<<Counter>>, 100 + Counter rem 1000).

%%% Stopped

%% A node that is stopped in the middle of its exports stops no reader, who can tell; woken, it goes on.
stopped(Config) ->
    Path = erlmcp_shm_test:path(Config),
    Node = erlmcp_shm_test:start_node(),
    ok = erlmcp_shm_test:call(Node, erlmcp_shm_test, start_unlinked, [#{path => Path, size => 1 bsl 20}]),
    Os = peer:call(Node, os, getpid, []),
    ok = erlmcp_shm_test:call(Node, ?MODULE, load, [Path, #{1 => 0}]),
    {ok, Command} = erlmcp_shm_test:binary("erlmcp-shm"),
    {ok, Reader} = ?R:open(Path),
    erlmcp_shm_test:eventually(fun() -> counter(Reader) > 10 end),
    "" = os:cmd("kill -STOP " ++ Os),
    timer:sleep(50),
    Stopped = counter(Reader),
    erlmcp_shm_test:eventually(fun() ->
        {_, Said} = erlmcp_shm_test:run(Command, ["--path", Path, "stat"]),
        binary:match(Said, <<"stale">>) =/= nomatch
    end),
    ?assertEqual(Stopped, counter(Reader)),
    "" = os:cmd("kill -CONT " ++ Os),
    erlmcp_shm_test:eventually(fun() -> counter(Reader) > Stopped end),
    ok = ?R:close(Reader),
    erlmcp_shm_test:stop_node(Node).

counter(Reader) ->
    case ?R:lookup(Reader, resource, key(1)) of
        {ok, <<1:64, Counter:64, _/binary>>, _} -> Counter;
        {error, not_found} -> 0
    end.

%%% Figures

now_ms() -> erlang:monotonic_time(microsecond) / 1000.

rank(Figures, Percent) ->
    lists:nth(max(1, round(length(Figures) * Percent / 100)), lists:sort(Figures)).
