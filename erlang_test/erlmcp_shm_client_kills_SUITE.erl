%% A node that is killed and started anew, again and again, below a client of all tiers that reads without end: it gets
%% no wrong answer, typed errors at most, and the node's own answers again once there is a node. NODE_KILLS_SECONDS
%% says for how long.
-module(erlmcp_shm_client_kills_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(C, erlmcp_shm_test_client).
-define(E, erlmcp_shm_exporter).
-define(KEYS, 4).
%% A node's life, from when it listens.
-define(LIFE_MS, 1000).

all() -> [killed_every_second].

init_per_testcase(Case, Config) ->
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    ok.

killed_every_second(Config) ->
    Seconds = list_to_integer(os:getenv("NODE_KILLS_SECONDS", "14")),
    Port = ?C:free_port(),
    File = ?C:configured(Config, Port),
    First = node_at(File, Port, Config),
    %% The breakers as they come: five failures in a row, then half a minute.
    Toml = ?C:toml(Config, File, #{transport => "hybrid", l2 => true, more => "l1.ttl = \"0s\"\n", without => stdio}),
    Client = ?C:start(Toml, stateless),
    {ok, #{<<"content">> := _}} = ?C:ask(Client, call_tool, #{name => <<"add">>, arguments => #{a => 1, b => 1}}),
    Test = self(),
    Until = erlang:monotonic_time(millisecond) + Seconds * 1000,
    Killer = spawn_link(fun() ->
        %% What the port of a node says goes to who opened it.
        {Last, Kills} = kills(Until, First, File, Port, Config, []),
        Test ! {self(), Kills},
        receive
            stop -> ok = ?C:kill_node(Last)
        end,
        Test ! {self(), stopped}
    end),
    true = erlang:port_connect(First, Killer),
    %% A little longer than the kills: the last node has come up by then.
    {ok, Tally} = ?C:ask(Client, kills, #{acknowledged => list_to_binary(acknowledged(Config)), seconds => Seconds + 8}),
    Lives =
        receive
            {Killer, All} -> All
        end,
    ok = ?C:stop(Client),
    Killer ! stop,
    receive
        {Killer, stopped} -> ok
    end,
    shown(Tally, Lives),
    ?assertEqual([], maps:get(<<"wrong">>, Tally)),
    ?assertEqual([], called_twice_or_not(Tally, Config)),
    Known = ["Unavailable", "Lost", "Timeout", "Shared", "Silent"],
    Unknown = [Name || Name <- maps:keys(maps:get(<<"errors">>, Tally)), not known(Name, Known)],
    ?assertEqual([], Unknown),
    %% All of them are shown; one may have met a moment in which the machine had no time for it.
    ?assert(rank(backs(Tally, Lives), 50) < 1000).

known(Name, Known) ->
    [_, Error] = string:split(Name, ": "),
    lists:member(binary_to_list(Error), Known).

%% What was answered was carried out; and nothing twice, answered or not.
called_twice_or_not(#{<<"called">> := Called}, Config) ->
    {ok, Written} = file:read_file(once(Config)),
    Numbers = [binary_to_integer(Line) || Line <- binary:split(Written, <<"\n">>, [global, trim])],
    (Called -- Numbers) ++ (Numbers -- lists:usort(Numbers)).

%%% Nodes

node_at(File, Port, Config) ->
    Load = ["-run", atom_to_list(?MODULE), "load", acknowledged(Config), once(Config)],
    Node = ?C:start_node(File, Load),
    ok = ?C:await_port(Port),
    erlmcp_shm_test:eventually(fun() -> filelib:file_size(acknowledged(Config)) >= 8 * ?KEYS end),
    Node.

%% When each node was killed, and when the next one listened, in us.
kills(Until, Node, File, Port, Config, Lives) ->
    timer:sleep(?LIFE_MS),
    Killed = os:system_time(microsecond),
    ok = ?C:kill_node(Node),
    Next = node_at(File, Port, Config),
    Listens = os:system_time(microsecond),
    Now = [{Killed, Listens} | Lives],
    case erlang:monotonic_time(millisecond) > Until of
        true -> {Next, lists:reverse(Now)};
        false -> kills(Until, Next, File, Port, Config, Now)
    end.

acknowledged(Config) -> erlmcp_shm_test:path(Config) ++ ".acknowledged".

once(Config) -> erlmcp_shm_test:path(Config) ++ ".once".

%% On the node: counts on from what it finds, without end, and writes down what has returned.
load([Acknowledged, Once]) ->
    ok = application:set_env(erlmcp_shm, once, Once),
    _ = spawn(fun() ->
        {ok, File} = file:open(Acknowledged, [read, write, raw, binary]),
        export(File, maps:from_list([{Key, found(Key)} || Key <- lists:seq(0, ?KEYS - 1)]))
    end),
    ok.

found(Key) ->
    case ?E:lookup(resource, uri(Key)) of
        {ok, Value, _} ->
            [_, Counter | _] = binary:split(Value, <<" ">>, [global]),
            binary_to_integer(Counter);
        {error, not_found} ->
            0
    end.

export(File, Counters) ->
    Next = maps:map(
        fun(Key, Before) ->
            Counter = Before + 1,
            Value = io_lib:format("~b ~b ~s", [Key, Counter, lists:duplicate(Counter rem 1000, $.)]),
            ok = ?E:export_resource(uri(Key), iolist_to_binary(Value), #{mime_type => <<"text/plain">>}),
            ok = file:pwrite(File, Key * 8, <<Counter:64>>),
            Counter
        end,
        Counters
    ),
    timer:sleep(1),
    export(File, Next).

uri(Key) -> <<"count:", (integer_to_binary(Key))/binary>>.

%%% Figures

%% For each node, how long after it listened the client had its first answer of it, in ms; and below 0 if that was
%% before this test saw it listen.
backs(#{<<"turns">> := Turns}, Lives) ->
    Ends = [Killed || {Killed, _} <- tl(Lives)] ++ [infinity],
    [
        case [At || [true, At] <- Turns, At > Killed, At < End] of
            [First | _] -> (First - Listens) / 1000;
            %% It did not notice that the one before was gone.
            [] -> case [At || [false, At] <- Turns, At > Killed, At < End] of [] -> 0.0; _ -> never end
        end
     || {{Killed, Listens}, End} <- lists:zip(Lives, Ends)
    ].

shown(#{<<"reads">> := Reads, <<"errors">> := Errors, <<"wrong">> := Wrong} = Tally, Lives) ->
    Row = fun(What, Figure) -> io:format(user, "  ~-52ts ~8ts~n", [What, Figure]) end,
    Ms = fun(Figure) -> io_lib:format("~.1f", [float(Figure)]) end,
    Restarts = [(Listens - Killed) / 1000 || {Killed, Listens} <- Lives],
    {Nevers, Backs} = lists:partition(fun is_atom/1, backs(Tally, Lives)),
    io:format(user, "~na client of all tiers, while its node is killed every second~n", []),
    Row("kills", integer_to_list(length(Lives))),
    [Row(["reads, from ", Tier], integer_to_binary(N)) || {Tier, N} <- lists:sort(maps:to_list(Reads))],
    Row("calls of a tool answered", integer_to_list(length(maps:get(<<"called">>, Tally)))),
    [Row(["errors, ", Name], integer_to_binary(N)) || {Name, N} <- lists:sort(maps:to_list(Errors))],
    Row("wrong answers", integer_to_list(length(Wrong))),
    Row("ms from a kill until the next node listens, p50", Ms(rank(Restarts, 50))),
    Row("the same, longest", Ms(lists:max(Restarts))),
    Row("ms from there to its first answer, p50", Ms(rank(Backs, 50))),
    Row("the same, longest", Ms(lists:max(Backs))),
    Row("nodes killed again before their first answer", integer_to_list(length(Nevers))),
    Row("longest round of two reads and a call, ms", Ms(maps:get(<<"longest_us">>, Tally) / 1000)).

rank(Figures, Percent) ->
    lists:nth(max(1, round(length(Figures) * Percent / 100)), lists:sort(Figures)).
