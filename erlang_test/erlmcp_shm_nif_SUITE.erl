%% The native functions by themselves: wrong terms everywhere, handles and their end, readers.
-module(erlmcp_shm_nif_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(N, erlmcp_shm_nif).

all() ->
    [
        wrong_terms,
        wrong_handles,
        closed,
        closed_twice,
        handle_without_owner,
        reader_handles,
        compaction,
        stats,
        busy_goes_on
    ].

init_per_testcase(Case, Config) ->
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    ok.

%%% Wrong terms

%% Every function, every position, every sort of term: an answer or badarg, and a node that lives.
wrong_terms(Config) ->
    Writer = erlmcp_shm_test:open(Config),
    {ok, Reader} = ?N:reader_open(bin_path(Config), #{}),
    Big = binary:copy(<<"k">>, 70000),
    Terms = [
        undefined, 0, -1, 1 bsl 70, 1.5, <<>>, <<"k">>, <<255>>, <<1:7>>, Big, [], "list", [1 | 2], {}, {json},
        {json, 1}, {json, <<"[">>}, {json, []}, #{}, #{1 => 2}, self(), make_ref(), fun() -> ok end, hd(erlang:ports()), Writer, Reader
    ],
    Calls = [
        {open, [bin_path(Config), erlmcp_shm_test:open_options()]},
        {put, [Writer, resource, <<"k">>, <<"v">>, #{}]},
        {put_dirty, [Writer, tool, <<"k">>, #{}, #{}]},
        {put_batch, [Writer, [{resource, <<"k">>, <<"v">>, #{}}]]},
        {delete, [Writer, resource, <<"k">>]},
        {delete_dirty, [Writer, resource, <<"k">>]},
        {get, [Writer, resource, <<"k">>]},
        {stats, [Writer]},
        {heartbeat, [Writer]},
        {flush, [Writer]},
        {compact, [Writer]},
        {reader_open, [bin_path(Config), #{}]},
        {reader_get, [Reader, resource, <<"k">>]},
        {reader_stats, [Reader]},
        {encode_json, [#{}]},
        {validate_json, [<<"{}">>]},
        {decode_json, [<<"{}">>]},
        {decode_json_dirty, [<<"{}">>]},
        {list, [Writer, resource, <<>>, 10]},
        {digest, [Writer]},
        {version, [Writer, resource, <<"k">>]},
        {changes, [Reader]},
        {close, [Writer]},
        {reader_close, [Reader]}
    ],
    %% A function that is added has to be tried as well.
    Native = [Function || {Function, _} <- ?N:module_info(exports), Function =/= module_info],
    ?assertEqual(lists:sort(Native), lists:sort([Function || {Function, _} <- Calls])),
    Tried = [
        begin
            Args = lists:sublist(Right, Position - 1) ++ [Term] ++ lists:nthtail(Position, Right),
            sane(Function, Args)
        end
     || {Function, Right} <- Calls,
        Position <- lists:seq(1, length(Right)),
        Term <- Terms,
        %% Any bytes are a path, and a file would be made of them.
        not (lists:member(Function, [open, reader_open]) andalso Position =:= 1 andalso is_binary(Term)),
        %% Both are needed to the end.
        not (lists:member(Function, [close, reader_close]) andalso lists:member(Term, [Writer, Reader]))
    ],
    Batches = [[{resource, <<"k">>, <<"v">>, #{}}, Term] || Term <- Terms] ++ [[{invalidate, T, T}] || T <- Terms],
    [sane(put_batch, [Writer, Batch]) || Batch <- Batches],
    Options = [(erlmcp_shm_test:open_options())#{Key => Term} || Key <- maps:keys(erlmcp_shm_test:open_options()), Term <- Terms],
    [sane(open, [<<(bin_path(Config))/binary, ".other">>, O]) || O <- Options],
    ?assert(length(Tried) > 700),
    ok = erlmcp_shm_test:put(Writer, resource, <<"after">>, <<"all">>, #{}),
    ?assertMatch({ok, <<"all">>, _}, ?N:reader_get(Reader, resource, <<"after">>)),
    ok = ?N:reader_close(Reader),
    ok = ?N:close(Writer).

sane(Function, Args) ->
    try apply(?N, Function, Args) of
        ok -> ok;
        busy -> ok;
        {ok, Handle} when is_reference(Handle), Function =:= open -> ?N:close(Handle);
        {ok, Handle} when is_reference(Handle), Function =:= reader_open -> ?N:reader_close(Handle);
        {ok, _} -> ok;
        {ok, _, _} -> ok;
        {error, {Index, Reason}} when is_integer(Index), Index >= 0 -> reason(Reason);
        {error, Reason} -> reason(Reason)
    catch
        error:badarg -> ok
    end.

reason(Reason) when is_atom(Reason) -> ok;
reason({What, _}) when is_atom(What) -> ok.

wrong_handles(Config) ->
    Writer = erlmcp_shm_test:open(Config),
    {ok, Reader} = ?N:reader_open(bin_path(Config), #{}),
    [
        ?assertError(badarg, ?N:get(Handle, resource, <<"k">>))
     || Handle <- [make_ref(), Reader, undefined, 0]
    ],
    ?assertError(badarg, ?N:reader_get(Writer, resource, <<"k">>)),
    ?assertError(badarg, ?N:close(make_ref())),
    Wrong = [
        {{badarg, kind}, ?N:put(Writer, resources, <<"k">>, <<>>, #{})},
        {{badarg, key}, ?N:put(Writer, resource, "k", <<>>, #{})},
        {{badarg, data}, ?N:put(Writer, resource, <<"k">>, [<<"io">>], #{})},
        {{badarg, data}, ?N:put(Writer, tool, <<"k">>, <<"{}">>, #{})},
        {{badarg, metadata}, ?N:put(Writer, resource, <<"k">>, <<>>, [])},
        {{badarg, kind}, ?N:get(Writer, 1, <<"k">>)},
        {{badarg, key}, ?N:delete(Writer, tool, k)}
    ],
    [?assertEqual({error, Reason}, Result) || {Reason, Result} <- Wrong],
    ok = ?N:reader_close(Reader),
    ok = ?N:close(Writer).

%%% Handles

closed(Config) ->
    Writer = erlmcp_shm_test:open(Config),
    ok = erlmcp_shm_test:put(Writer, resource, <<"k">>, <<"v">>, #{}),
    ok = ?N:close(Writer),
    Calls = [
        {put, [resource, <<"k">>, <<>>, #{}]},
        {put_dirty, [resource, <<"k">>, <<>>, #{}]},
        {delete, [resource, <<"k">>]},
        {delete_dirty, [resource, <<"k">>]},
        {heartbeat, []},
        {flush, []},
        {compact, []}
    ],
    [?assertEqual({F, {error, closed}}, {F, apply(?N, F, [Writer | Args])}) || {F, Args} <- Calls],
    ?assertMatch({error, _}, ?N:put_batch(Writer, [{resource, <<"k">>, <<>>, #{}}])).

closed_twice(Config) ->
    Writer = erlmcp_shm_test:open(Config),
    ok = ?N:close(Writer),
    ok = ?N:close(Writer),
    {ok, Reader} = ?N:reader_open(bin_path(Config), #{}),
    ok = ?N:reader_close(Reader),
    ok = ?N:reader_close(Reader),
    ?assertEqual({error, closed}, ?N:reader_get(Reader, resource, <<"k">>)),
    ?assertEqual({error, closed}, ?N:reader_stats(Reader)).

%% A handle that nobody holds any more lets go of the file.
handle_without_owner(Config) ->
    {Pid, Monitor} = spawn_monitor(fun() ->
        Writer = erlmcp_shm_test:open(Config),
        ok = erlmcp_shm_test:put(Writer, resource, <<"k">>, <<"v">>, #{}),
        {error, locked} = ?N:open(bin_path(Config), erlmcp_shm_test:open_options()),
        ok = ?N:flush(Writer)
    end),
    receive
        {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(normal, Reason)
    end,
    {ok, Writer} = ?N:open(bin_path(Config), (erlmcp_shm_test:open_options())#{lock_wait => 10000}),
    ?assertMatch({ok, <<"v">>, _}, ?N:get(Writer, resource, <<"k">>)),
    ok = ?N:close(Writer).

reader_handles(Config) ->
    Path = bin_path(Config),
    ?assertMatch({error, _}, erlmcp_shm_reader:open(Path)),
    ?assertEqual({error, {badarg, path}}, erlmcp_shm_reader:open(17)),
    ?assertMatch({error, {badarg, _}}, erlmcp_shm_reader:open(Path, [])),
    ?assertMatch({error, {badarg, _}}, erlmcp_shm_reader:open(Path, #{refresh_interval => soon})),
    %% A reader that was there before the file.
    {ok, Early} = erlmcp_shm_reader:open(Path, #{allow_absent => true, refresh_interval => 10}),
    Writer = erlmcp_shm_test:open(Config),
    ok = erlmcp_shm_test:put(Writer, resource, <<"k">>, <<"v">>, #{}),
    erlmcp_shm_test:eventually(fun() ->
        element(1, erlmcp_shm_reader:lookup(Early, resource, <<"k">>)) =:= ok
    end),
    %% From many processes at once, and each new value at the very next lookup.
    Self = self(),
    Lookers = [
        spawn_link(fun() ->
            [{ok, _, _} = erlmcp_shm_reader:lookup(Early, resource, <<"k">>) || _ <- lists:seq(1, 5000)],
            Self ! {done, self()}
        end)
     || _ <- lists:seq(1, 4)
    ],
    [
        begin
            ok = erlmcp_shm_test:put(Writer, resource, <<"k">>, <<N:32>>, #{}),
            {ok, <<N:32>>, _} = erlmcp_shm_reader:lookup(Early, resource, <<"k">>)
        end
     || N <- lists:seq(1, 2000)
    ],
    [
        receive
            {done, Pid} -> ok
        end
     || Pid <- Lookers
    ],
    ?assertMatch({ok, #{entries := 1}}, erlmcp_shm_reader:stats(Early)),
    ok = erlmcp_shm_reader:close(Early),
    ?assertEqual({error, closed}, erlmcp_shm_reader:lookup(Early, resource, <<"k">>)),
    ok = ?N:close(Writer).

%%% The rest

compaction(Config) ->
    Writer = erlmcp_shm_test:open(Config),
    [ok = erlmcp_shm_test:put(Writer, resource, <<"k">>, rand:bytes(1000), #{}) || _ <- lists:seq(1, 200)],
    {ok, #{generation := Before, version := Version}} = ?N:stats(Writer),
    ok = ?N:compact(Writer),
    {ok, #{generation := After, version := Version, dead_bytes := Dead, entries := 1}} = ?N:stats(Writer),
    ?assert(After > Before),
    ?assertEqual(0, Dead),
    ok = ?N:close(Writer).

stats(Config) ->
    Writer = erlmcp_shm_test:open(Config),
    {ok, Stats} = ?N:stats(Writer),
    Keys = [
        path, size, max_size, entries, tombstones, live_bytes, dead_bytes, log_capacity, log_used, fragmentation, fill,
        generation, version, store_id, slot_count, puts, deletes, rollovers, state, pinned_bytes, huge_pages,
        heartbeat_age_ms, last_build_error
    ],
    ?assertEqual([], Keys -- maps:keys(Stats)),
    ok = ?N:close(Writer).

%% While one caller writes a large value, others are told `busy' at once or write; none is told anything else.
busy_goes_on(Config) ->
    Writer = erlmcp_shm_test:open(Config, #{size => 1 bsl 24}),
    Large = rand:bytes(4 bsl 20),
    Self = self(),
    spawn_link(fun() ->
        [ok = ?N:put_dirty(Writer, resource, <<"large">>, Large, #{}) || _ <- lists:seq(1, 20)],
        Self ! done
    end),
    Results = small_puts(Writer, []),
    ct:pal("~p", [[{R, length([1 || X <- Results, X =:= R])} || R <- lists:usort(Results)]]),
    ?assertEqual([], lists:usort(Results) -- [busy, ok]),
    ok = ?N:close(Writer).

small_puts(Writer, Results) ->
    receive
        done -> Results
    after 0 ->
        small_puts(Writer, [?N:put(Writer, resource, <<"small">>, <<"v">>, #{}) | Results])
    end.

bin_path(Config) ->
    list_to_binary(erlmcp_shm_test:path(Config)).
