%% A reader in another process, started before there is a file, follows a store through rollovers, growth
%% and killed nodes: nothing torn, foreign, older or gone, and every new value at its next lookup.
-module(erlmcp_shm_follow_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(E, erlmcp_shm_exporter).
-define(KEYS, 64).

all() -> [through_rollovers_growth_and_killed_nodes].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

through_rollovers_growth_and_killed_nodes(Config) ->
    Path = erlmcp_shm_test:path(Config),
    Options = #{path => Path, size => 1 bsl 20, max_size => 256 bsl 20},
    Reader = follow(Path),
    First = publisher(Options),
    Counter1 = rounds(First, Reader, 30, 0),
    Second = node_after_kill(First, Options),
    Counter2 = rounds(Second, Reader, 30, sees(Reader, Counter1)),
    Third = node_after_kill(Second, Options),
    Counter3 = rounds(Third, Reader, 30, sees(Reader, Counter2)),
    Grown = lists:foldl(
        fun(Length, From) -> round(Third, Reader, From, 2 * ?KEYS, Length) end,
        Counter3,
        [1 bsl 14, 1 bsl 16, 1 bsl 18, 1 bsl 19]
    ),
    #{rollovers := Rollovers, size := Size} = erlmcp_shm_test:call(Third, ?E, info, []),
    ct:pal("~p puts, ~p rollovers, ~p MB", [Grown, Rollovers, Size bsr 20]),
    ?assert(Rollovers >= 50),
    ?assert(Size >= 64 bsl 20),
    %% The reader has not failed meanwhile: it still answers.
    _ = sees(Reader, Grown),
    port_close(Reader),
    erlmcp_shm_test:stop_node(Third).

publisher(Options) ->
    Node = erlmcp_shm_test:start_node(),
    ok = erlmcp_shm_test:call(Node, erlmcp_shm_test, start_unlinked, [Options]),
    Node.

node_after_kill(Old, Options) ->
    ok = erlmcp_shm_test:kill_node(Old),
    publisher(Options).

%% 1500 puts of 512 bytes are more than half of what the file holds.
rounds(Node, Reader, N, Counter) ->
    lists:foldl(fun(_, From) -> round(Node, Reader, From, 1500, 512) end, Counter, lists:seq(1, N)).

%% Count puts on the node, each after the other; then the reader looks.
round(Node, Reader, From, Count, Length) ->
    ok = erlmcp_shm_test:call(Node, ?MODULE, puts, [From + 1, From + Count, Length]),
    sees(Reader, From + Count).

puts(From, To, Length) ->
    lists:foreach(
        fun(Counter) ->
            Number = Counter rem ?KEYS,
            Fill = binary:copy(<<(31 * Number + Counter)>>, Length - 16),
            Value = <<Number:64/little, Counter:64/little, Fill/binary>>,
            ok = ?E:export_resource(<<"key/", (integer_to_binary(Number))/binary>>, Value, #{})
        end,
        lists:seq(From, To)
    ).

%%% The reader

follow(Path) ->
    {ok, Command} = erlmcp_shm_test:binary("examples/follow"),
    Arguments = [Path, integer_to_list(?KEYS)],
    Port = open_port({spawn_executable, Command}, [{args, Arguments}, {line, 100}, binary, exit_status]),
    <<"ready">> = answer(Port),
    Port.

%% The value of this counter is what the next lookup of its key finds.
sees(Reader, Counter) ->
    true = port_command(Reader, io_lib:format("~p ~p~n", [Counter rem ?KEYS, Counter])),
    [Found, _Generation] = binary:split(answer(Reader), <<" ">>),
    ?assertEqual(Counter, binary_to_integer(Found)),
    Counter.

answer(Port) ->
    receive
        {Port, {data, {eol, Line}}} -> Line;
        {Port, {exit_status, Status}} -> error({reader_failed, Status})
    after 30000 -> error(reader_silent)
    end.
