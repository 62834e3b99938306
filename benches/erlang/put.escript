#!/usr/bin/env escript
%% -*- erlang -*-
%%! -noshell
%% A put of 1 KiB from Erlang beside ets:insert of the same binary, in one run: 10,000 keys, metadata #{}.
%% Rounds alternate, so that a noisy neighbour meets both; the ratio of the medians is what counts.
-mode(compile).

main(Args) ->
    Root = filename:dirname(filename:dirname(filename:dirname(filename:absname(escript:script_name())))),
    true = code:add_patha(filename:join(Root, "_build/default/lib/erlmcp_shm/ebin")),
    Rounds = case Args of [N] -> list_to_integer(N); [] -> 15 end,
    Dir = filename:join(folder(), "erlmcp-bench-" ++ os:getpid()),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    Path = filename:join(Dir, "store"),
    {ok, Pid} = erlmcp_shm_exporter:start_link(#{path => Path, size => 64 bsl 20, max_size => 512 bsl 20}),
    try
        Keys = [iolist_to_binary(io_lib:format("file:///srv/erlmcp/resources/~8..0b.txt", [I])) || I <- lists:seq(1, 10000)],
        Data = binary:copy(<<"x">>, 1024),
        Table = ets:new(t, [set, public]),
        Put = fun(K) -> ok = erlmcp_shm_exporter:export_resource(K, Data, #{}) end,
        Insert = fun(K) -> true = ets:insert(Table, {K, Data}) end,
        Copied = fun(K) -> true = ets:insert(Table, {K, binary:copy(Data)}) end,
        Lookup = fun(K) -> {ok, Data, _} = erlmcp_shm_exporter:lookup(resource, K) end,
        Term = fun(K) -> Data = persistent_term:get({?MODULE, K}) end,
        EtsLookup = fun(K) -> [{_, Data}] = ets:lookup(Table, K) end,
        Cases = [{"ets:insert", Insert}, {"ets:insert of a copy", Copied}, {"export_resource", Put},
                 {"ets:lookup", EtsLookup}, {"lookup", Lookup}, {"persistent_term:get", Term}],
        [persistent_term:put({?MODULE, K}, Data) || K <- Keys],
        [run(F, Keys) || {_, F} <- Cases],
        Times = [[{Name, run(F, Keys)} || {Name, F} <- Cases] || _ <- lists:seq(1, Rounds)],
        Base = median([proplists:get_value("ets:insert", T) || T <- Times]),
        Rows = [{Name, median([proplists:get_value(Name, T) || T <- Times]), spread(F, Keys, Rounds)} || {Name, F} <- Cases],
        [io:format("~-22s ~6b ns  ~5.2f x ets:insert  p50 ~b p99 ~b p99.9 ~b~n", [Name, T, T / Base | Spread]) || {Name, T, Spread} <- Rows],
        note(Root, Rows, Base)
    after
        gen_server:stop(Pid),
        file:del_dir_r(Dir)
    end.

folder() ->
    case filelib:is_dir("/dev/shm") of
        true -> "/dev/shm";
        false -> filename:basedir(user_cache, "erlmcp_shm")
    end.

%% Beside what the other benchmarks measured, for the tables.
note(Root, Rows, Base) ->
    File = filename:join(Root, "target/bench/results.jsonl"),
    ok = filelib:ensure_dir(File),
    Line = "{\"group\":\"erlang\",\"peer\":\"~s\",\"keys\":10000,\"value\":1024,\"load\":\"idle\",\"ns\":~b,\"ratio\":~.3f,\"p50\":~b,\"p99\":~b,\"p999\":~b}~n",
    Lines = [io_lib:format(Line, [Name, T, T / Base | Spread]) || {Name, T, Spread} <- Rows],
    ok = file:write_file(File, Lines, [append]).

%% ns a call, over all keys.
run(F, Keys) ->
    T0 = erlang:monotonic_time(nanosecond),
    lists:foreach(F, Keys),
    (erlang:monotonic_time(nanosecond) - T0) div length(Keys).

%% p50, p99 and p99.9 of calls timed one by one, the timer's own cost included.
spread(F, Keys, Rounds) ->
    Timed = fun(K) ->
        T0 = erlang:monotonic_time(nanosecond),
        F(K),
        erlang:monotonic_time(nanosecond) - T0
    end,
    Times = lists:sort([Timed(K) || _ <- lists:seq(1, Rounds), K <- Keys]),
    [lists:nth(ceil(length(Times) * Part), Times) || Part <- [0.5, 0.99, 0.999]].

median(L) -> lists:nth((length(L) + 1) div 2, lists:sort(L)).
