%% How long the native functions of normal schedulers take while the store is compacted, beside the same calls
%% while another store of that size is: the same load on the machine, but none of it on the lock. The long form
%% (LATENCY_MIB=1024) asserts 1 ms at p99.9, the short one only that a scheduler is not held for a tenth of a second.
-module(erlmcp_shm_latency_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(NIF, erlmcp_shm_nif).
%% Bytes of a value.
-define(LEN, 1024).
%% Latencies are counted by the tenth of a microsecond, up to 10 ms; whatever takes longer is in the last count.
-define(STEP, 100).
-define(STEPS, 100000).
%% The shortest run of each sort, by which p99.9 is not a single call.
-define(CALLS, 20000).

all() ->
    [normal_calls_while_a_compaction_runs].

%% In memory, as in earnest; the folder of the test run may be on a disk.
init_per_testcase(Case, Config) ->
    Unique = erlang:unique_integer([positive]),
    Folder = lists:concat(["/dev/shm/", Case, "-", os:getpid(), "-", Unique]),
    ok = file:make_dir(Folder),
    [{folder, Folder} | Config].

end_per_testcase(_Case, Config) ->
    ok = file:del_dir_r(proplists:get_value(folder, Config)).

suite() ->
    [{timetrap, {minutes, 10}}].

normal_calls_while_a_compaction_runs(Config) ->
    Mib = list_to_integer(os:getenv("LATENCY_MIB", "64")),
    Measured = fill(Config, measured, Mib),
    Other = fill(Config, other, Mib),
    {ok, Reader} = ?NIF:reader_open(list_to_binary(path(Config, measured)), #{}),
    Keys = Mib * 1024,
    %% In turns, so that what the machine does meanwhile meets both alike.
    Rounds = [{beside(Other, Measured, Reader, Keys), beside(Measured, Measured, Reader, Keys)} || _ <- [1, 2]],
    {Control, During} = {[C || {C, _} <- Rounds], [D || {_, D} <- Rounds]},
    ct:print("~b MiB live, in us~n~ts", [Mib, table(Control, During)]),
    ok = ?NIF:reader_close(Reader),
    ok = ?NIF:close(Measured),
    ok = ?NIF:close(Other),
    Bound =
        case os:getenv("LATENCY_MIB") of
            false -> 100000;
            _ -> 1000
        end,
    [?assert(at(Name, During, 0.999) < Bound, {Name, at(Name, During, 0.999)}) || {Name, _} <- calls(none, none, 1)].

%%% The store

path(Config, Name) ->
    filename:join(proplists:get_value(folder, Config), Name).

fill(Config, Name, Mib) ->
    {ok, Writer} = ?NIF:open(list_to_binary(path(Config, Name)), (erlmcp_shm_test:open_options())#{
        size => 2 * Mib bsl 20, max_size => 4 * Mib bsl 20
    }),
    [
        ok = ?NIF:put_batch(Writer, [{resource, key(K), value(K), #{}} || K <- lists:seq(First, First + 1023)])
     || First <- lists:seq(1, Mib * 1024, 1024)
    ],
    ok = ?NIF:compact(Writer),
    Writer.

key(K) -> integer_to_binary(K).

value(K) -> binary:copy(<<K:64>>, ?LEN div 8).

%%% Measuring

%% All that `erlmcp_shm_nif' runs on normal schedulers, each with a fresh key.
calls(Writer, Reader, K) ->
    Key = key(K),
    [
        {put, fun() -> ?NIF:put(Writer, resource, Key, <<K:8192>>, #{}) end},
        {get, fun() -> ?NIF:get(Writer, resource, Key) end},
        {reader_get, fun() -> ?NIF:reader_get(Reader, resource, Key) end},
        {stats, fun() -> ?NIF:stats(Writer) end},
        {flush, fun() -> ?NIF:flush(Writer) end},
        {delete, fun() -> ?NIF:delete(Writer, resource, Key) end}
    ].

%% Compactions of `Compacted', one after the other for as long as it takes; only calls that began and ended during one
%% count. Answers what was counted, by call.
beside(Compacted, Measured, Reader, Keys) ->
    Histograms = maps:from_list([{Name, new()} || {Name, _} <- calls(none, none, 1)]),
    Running = counters:new(1, []),
    Enough = counters:new(1, []),
    {Compactor, Monitor} = spawn_monitor(fun() -> compact(Compacted, Running, Enough) end),
    %% Room for all that a round leaves on the heap: the collector's pauses are not the native functions'.
    {Caller, Calling} = spawn_opt(
        fun() -> call_until(Measured, Reader, Keys, Histograms, Running, ?CALLS) end,
        [monitor, {min_heap_size, 1 bsl 20}, {priority, high}]
    ),
    receive
        {'DOWN', Calling, process, Caller, normal} -> counters:add(Enough, 1, 1)
    end,
    receive
        {'DOWN', Monitor, process, Compactor, normal} -> Histograms
    end.

compact(Writer, Running, Enough) ->
    case counters:get(Enough, 1) of
        0 ->
            counters:add(Running, 1, 1),
            ok = ?NIF:compact(Writer),
            counters:add(Running, 1, 1),
            compact(Writer, Running, Enough);
        _ ->
            ok
    end.

call_until(_Measured, _Reader, _Keys, _Histograms, _Running, 0) ->
    ok;
call_until(Measured, Reader, Keys, Histograms, Running, Left) ->
    Calls = calls(Measured, Reader, rand:uniform(Keys)),
    Counted = lists:foldl(fun({Name, Call}, N) -> N + timed(Call, maps:get(Name, Histograms), Running) end, 0, Calls),
    %% Put back what was deleted; nothing of this is measured.
    Key = key(rand:uniform(Keys)),
    _ = erlmcp_shm_test:put(Measured, resource, Key, value(1), #{}),
    call_until(Measured, Reader, Keys, Histograms, Running, Left - min(Counted, 1)).

%% The count is odd while a compaction runs.
timed(Call, Histogram, Running) ->
    Before = counters:get(Running, 1),
    Start = erlang:monotonic_time(nanosecond),
    _ = Call(),
    Ns = erlang:monotonic_time(nanosecond) - Start,
    case counters:get(Running, 1) of
        Before when Before rem 2 =:= 1 ->
            note(Ns, Histogram),
            1;
        _ ->
            0
    end.

%%% Counting

new() ->
    {counters:new(?STEPS, []), counters:new(1, [])}.

note(Ns, {Counts, Longest}) ->
    counters:add(Counts, min(Ns div ?STEP + 1, ?STEPS), 1),
    counters:put(Longest, 1, max(Ns, counters:get(Longest, 1))).

total(Name, Runs) ->
    lists:sum([counters:get(Counts, I) || #{Name := {Counts, _}} <- Runs, I <- lists:seq(1, ?STEPS)]).

longest(Name, Runs) ->
    lists:max([counters:get(Longest, 1) || #{Name := {_, Longest}} <- Runs]) / 1000.

%% In microseconds, rounded up to what is counted.
at(Name, Runs, Share) ->
    at(Name, Runs, ceil(Share * total(Name, Runs)), 1).

at(Name, Runs, _Rank, ?STEPS) ->
    longest(Name, Runs);
at(Name, Runs, Rank, I) ->
    case Rank - lists:sum([counters:get(Counts, I) || #{Name := {Counts, _}} <- Runs]) of
        More when More > 0 -> at(Name, Runs, More, I + 1);
        _ -> I * ?STEP / 1000
    end.

table(Control, During) ->
    Row = fun(Name, What, Runs) ->
        Figures = [at(Name, Runs, Share) || Share <- [0.5, 0.99, 0.999]] ++ [longest(Name, Runs)],
        io_lib:format("~-11s ~-17s ~9b ~9.1f ~9.1f ~9.1f ~9.1f~n", [Name, What, total(Name, Runs) | Figures])
    end,
    [
        io_lib:format("~-11s ~-17s ~9s ~9s ~9s ~9s ~9s~n", ["call", "while compacting", "calls", "p50", "p99", "p99.9", "max"])
        | [[Row(Name, "another", Control), Row(Name, "this one", During)] || {Name, _} <- calls(none, none, 1)]
    ].
