%% Values and keys of every size, the limits, and which values are copied.
-module(erlmcp_shm_values_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(N, erlmcp_shm_nif).

all() ->
    [
        sizes,
        any_bytes_in_keys,
        limits,
        full_store,
        large_values_are_not_copied,
        values_outlive_their_entry
    ].

init_per_testcase(Case, Config) ->
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    ok.

%%% Sizes and limits

sizes(Config) ->
    Writer = erlmcp_shm_test:open(Config),
    {ok, Reader} = ?N:reader_open(bin_path(Config), #{}),
    Sizes = [0, 1, 7, 8, 9, 1023, 65535, 65536, 65537, 1 bsl 20, 8 bsl 20],
    [
        begin
            Key = <<"size ", (integer_to_binary(Size))/binary>>,
            Value = rand:bytes(Size),
            ok = erlmcp_shm_test:put(Writer, resource, Key, Value, #{size => Size}),
            {ok, Value, #{metadata := Metadata}} = ?N:get(Writer, resource, Key),
            {ok, Value, #{metadata := Metadata}} = ?N:reader_get(Reader, resource, Key),
            ?assertEqual(<<"{\"size\":", (integer_to_binary(Size))/binary, "}">>, Metadata)
        end
     || Size <- Sizes
    ],
    {ok, #{entries := Entries, rollovers := Rollovers}} = ?N:stats(Writer),
    ?assertEqual(length(Sizes), Entries),
    %% 1 MiB grew so as to hold 9.
    ?assert(Rollovers > 0),
    ok = ?N:reader_close(Reader),
    ok = ?N:close(Writer).

any_bytes_in_keys(Config) ->
    Writer = erlmcp_shm_test:open(Config),
    Keys = [<<B>> || B <- lists:seq(0, 255)] ++ [<<0, 0>>, <<"a", 0>>, <<255, 254>>, rand:bytes(1000), binary:copy(<<7>>, 65535)],
    [ok = erlmcp_shm_test:put(Writer, resource, Key, Key, #{}) || Key <- Keys],
    [?assertMatch({ok, Key, _}, ?N:get(Writer, resource, Key)) || Key <- Keys],
    ?assertEqual({error, not_found}, ?N:get(Writer, resource, <<0, 0, 0>>)),
    [ok = ?N:delete_dirty(Writer, resource, Key) || Key <- Keys],
    ?assertMatch({ok, #{entries := 0}}, ?N:stats(Writer)),
    ok = ?N:close(Writer).

limits(Config) ->
    Writer = erlmcp_shm_test:open(Config, #{max_size => 4 bsl 20}),
    ok = erlmcp_shm_test:put(Writer, resource, <<"kept">>, <<"v">>, #{}),
    Key = binary:copy(<<"k">>, 65536),
    ?assertEqual({error, empty_key}, erlmcp_shm_test:put(Writer, resource, <<>>, <<>>, #{})),
    ?assertEqual({error, key_too_large}, erlmcp_shm_test:put(Writer, resource, Key, <<>>, #{})),
    ?assertEqual({error, too_large}, erlmcp_shm_test:put(Writer, resource, <<"k">>, <<0:(8 * (5 bsl 20))>>, #{})),
    ?assertEqual({error, too_large}, erlmcp_shm_test:put(Writer, resource, <<"k">>, <<>>, #{x => binary:copy(<<"x">>, 5 bsl 20)})),
    ?assertEqual({error, {1, too_large}}, ?N:put_batch(Writer, [{resource, <<"a">>, <<>>, #{}}, {resource, <<"k">>, <<0:(8 * (5 bsl 20))>>, #{}}])),
    ?assertEqual({error, empty_key}, ?N:delete(Writer, resource, <<>>)),
    ?assertEqual({error, not_found}, ?N:get(Writer, resource, <<"a">>)),
    ?assertMatch({ok, <<"v">>, _}, ?N:get(Writer, resource, <<"kept">>)),
    ok = ?N:close(Writer).

%% Full, everything published is still there, and a delete makes room.
full_store(Config) ->
    Writer = erlmcp_shm_test:open(Config, #{size => 1 bsl 18, max_size => 1 bsl 20}),
    Value = rand:bytes(8000),
    Full = fill(Writer, Value, 0),
    ?assert(Full > 10),
    [{ok, Value, _} = ?N:get(Writer, resource, <<N:32>>) || N <- lists:seq(0, Full - 1)],
    ?assertEqual({error, no_space}, erlmcp_shm_test:put(Writer, resource, <<"more">>, Value, #{})),
    {error, {Index, no_space}} = ?N:put_batch(Writer, [{resource, <<"m", N:32>>, Value, #{}} || N <- lists:seq(1, 100)]),
    ?assert(is_integer(Index)),
    [ok = ?N:delete_dirty(Writer, resource, <<N:32>>) || N <- lists:seq(0, Full - 1)],
    [?assertEqual(ok, erlmcp_shm_test:put(Writer, resource, <<N:32>>, Value, #{})) || N <- lists:seq(1, 10)],
    ok = ?N:close(Writer).

fill(Writer, Value, N) when N < 1000 ->
    case erlmcp_shm_test:put(Writer, resource, <<N:32>>, Value, #{}) of
        ok -> fill(Writer, Value, N + 1);
        {error, no_space} -> N
    end.

%%% Copies

large_values_are_not_copied(Config) ->
    Writer = erlmcp_shm_test:open(Config),
    Size = 8 bsl 20,
    Value = rand:bytes(Size),
    ok = erlmcp_shm_test:put(Writer, resource, <<"large">>, Value, #{}),
    ok = erlmcp_shm_test:put(Writer, resource, <<"small">>, binary:part(Value, 0, 65536), #{}),
    true = erlang:garbage_collect(),
    Before = erlang:memory(binary),
    Held = [?N:get(Writer, resource, <<"large">>) || _ <- lists:seq(1, 20)],
    Grown = erlang:memory(binary) - Before,
    ct:pal("20 lookups of 8 MiB: binary memory grew by ~p bytes", [Grown]),
    ?assert(Grown < Size),
    [?assertMatch({ok, Value, _}, One) || One <- Held],
    ?assert(pinned(Writer) >= Size),
    %% A small one is a copy, and pins nothing.
    {ok, Small, _} = ?N:get(Writer, resource, <<"small">>),
    ?assertEqual(65536, binary:referenced_byte_size(Small)),
    unpinned(Writer),
    ok = ?N:close(Writer).

%% In another process, so that its heap goes with it: then nothing is pinned any more.
unpinned(Writer) ->
    Self = self(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        {ok, Large, _} = ?N:get(Writer, resource, <<"large">>),
        Self ! {pinned, pinned(Writer), byte_size(Large)}
    end),
    receive
        {pinned, Pinned, Size} -> ?assert(Pinned >= Size)
    end,
    receive
        {'DOWN', Monitor, process, Pid, normal} -> ok
    end,
    true = erlang:garbage_collect(),
    erlmcp_shm_test:eventually(fun() -> pinned(Writer) =:= 0 end).

pinned(Writer) ->
    {ok, #{pinned_bytes := Pinned}} = ?N:stats(Writer),
    Pinned.

%% A value that was looked up is that value for good: overwritten, deleted, compacted away, closed.
values_outlive_their_entry(Config) ->
    Writer = erlmcp_shm_test:open(Config),
    {ok, Reader} = ?N:reader_open(bin_path(Config), #{}),
    Value = rand:bytes(1 bsl 20),
    ok = erlmcp_shm_test:put(Writer, resource, <<"k">>, Value, #{}),
    {ok, Ours, _} = ?N:get(Writer, resource, <<"k">>),
    {ok, Theirs, _} = ?N:reader_get(Reader, resource, <<"k">>),
    <<_:100/binary, Part:200000/binary, _/binary>> = Theirs,
    Hash = erlang:md5(Part),
    [ok = erlmcp_shm_test:put(Writer, resource, <<"k">>, rand:bytes(1 bsl 20), #{}) || _ <- lists:seq(1, 20)],
    ok = ?N:delete_dirty(Writer, resource, <<"k">>),
    ok = ?N:compact(Writer),
    ok = ?N:reader_close(Reader),
    ok = ?N:close(Writer),
    ok = file:delete(bin_path(Config)),
    ?assert(Ours =:= Value andalso Theirs =:= Value),
    ?assertEqual(Hash, erlang:md5(Part)).

bin_path(Config) ->
    list_to_binary(erlmcp_shm_test:path(Config)).
