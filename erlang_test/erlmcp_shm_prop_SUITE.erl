%% The exporter against a map, over random histories in a store so small that it rolls over all the time.
%% PropEr is used by its functions: Debian keeps its header file in a package of its own.
-module(erlmcp_shm_prop_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(proper_types, [byte/0, frequency/1, list/1, oneof/1, resize/2, sized/1]).

-define(E, erlmcp_shm_exporter).
-define(HISTORIES, 100).

all() ->
    [exporter_is_a_map].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

exporter_is_a_map(Config) ->
    Rollovers = counters:new(1, []),
    Property = property(erlmcp_shm_test:path(Config), Rollovers),
    Options = [{numtests, ?HISTORIES}, {max_size, 60}, {to_file, user}],
    ?assert(proper:quickcheck(Property, Options)),
    Total = counters:get(Rollovers, 1),
    ct:pal("~p rollovers in ~p histories", [Total, ?HISTORIES]),
    io:format(user, "~p rollovers in ~p histories~n", [Total, ?HISTORIES]),
    ?assert(Total > 0).

property(Base, Rollovers) ->
    Steps = sized(fun(Size) -> resize(12 * Size, list(step())) end),
    proper:forall({Steps, oneof([0, 1, 100])}, fun({History, FlushInterval}) ->
        Path = Base ++ integer_to_list(erlang:unique_integer([positive])),
        Options = #{path => Path, size => 64 bsl 10, max_size => 1 bsl 20, flush_interval => FlushInterval},
        try
            history(History, Options, Rollovers)
        after
            erlmcp_shm_test:stop(),
            [file:delete(File) || File <- filelib:wildcard(Path ++ "*")]
        end
    end).

%% At its end every key is read twice: by the exporter, and by a reader that knows nothing of it.
history(History, #{path := Path} = Options, Rollovers) ->
    _ = erlmcp_shm_test:start(Options),
    {_, Model} = lists:foldl(fun step/2, {Options, #{}}, History),
    #{shm_entries := Entries, shm_rollovers_total := Rolled} = ?E:metrics(),
    %% Every opening of a file that is there makes a generation, too.
    counters:add(Rollovers, 1, Rolled - length([stop || stop <- History])),
    {ok, Reader} = erlmcp_shm_reader:open(Path),
    try
        Entries =:= map_size(Model) andalso
            agrees(fun ?E:lookup/2, Model) andalso
            agrees(fun(Kind, Key) -> erlmcp_shm_reader:lookup(Reader, Kind, Key) end, Model)
    after
        erlmcp_shm_reader:close(Reader)
    end.

%% Every key there is, present or not.
agrees(Lookup, Model) ->
    lists:all(
        fun({Kind, Key}) ->
            case {Lookup(Kind, Key), Model} of
                {{ok, Data, #{metadata := Metadata}}, #{{Kind, Key} := {Data, Metadata}}} -> true;
                {{error, not_found}, _} -> not is_map_key({Kind, Key}, Model);
                _ -> false
            end
        end,
        [{Kind, Key} || Kind <- [resource, tool], Key <- keys()]
    ).

%%% Steps

keys() ->
    [<<"k", N>> || N <- lists:seq(0, 11)].

key() ->
    oneof(keys()).

%% A size and a byte, so that a history that fails is short to read.
value() ->
    {oneof([0, 1, 7, 100, 1000, 4000]), byte()}.

operation() ->
    frequency([
        {6, {put, resource, key(), value()}},
        {3, {put, tool, key(), value()}},
        {2, {invalidate, oneof([resource, tool]), key()}}
    ]).

step() ->
    frequency([
        {20, operation()},
        {4, {batch, list(operation())}},
        {2, {bad_batch, list(operation())}},
        {4, {lookup, oneof([resource, tool]), key()}},
        {1, kill},
        {1, stop}
    ]).

step({batch, Operations}, {Options, Model}) ->
    ok = ?E:export_batch([item(Operation) || Operation <- Operations]),
    {Options, lists:foldl(fun apply_to/2, Model, Operations)};
step({bad_batch, Operations}, State) ->
    Bad = [item(Operation) || Operation <- Operations] ++ [{resource, <<>>, <<>>, #{}}],
    {error, {Index, empty_key}} = ?E:export_batch(Bad),
    Index = length(Operations),
    State;
step({lookup, Kind, Key}, {_, Model} = State) ->
    case {?E:lookup(Kind, Key), Model} of
        {{ok, Data, #{metadata := Metadata}}, #{{Kind, Key} := {Data, Metadata}}} -> State;
        {{error, not_found}, _} when not is_map_key({Kind, Key}, Model) -> State
    end;
%% Adopted: the same writer goes on.
step(kill, {Options, _} = State) ->
    Pid = whereis(?E),
    exit(Pid, kill),
    receive
        {'EXIT', Pid, killed} -> ok
    end,
    _ = erlmcp_shm_test:start(Options),
    State;
%% Closed, and recovered from the file.
step(stop, {Options, _} = State) ->
    ok = gen_server:stop(?E),
    _ = erlmcp_shm_test:start(Options),
    State;
step(Operation, {Options, Model}) ->
    ok =
        case item(Operation) of
            {resource, Key, Data, Metadata} -> ?E:export_resource(Key, Data, Metadata);
            {tool, Key, Data, Metadata} -> ?E:export_tool_schema(Key, Data, Metadata);
            {invalidate, Kind, Key} -> ?E:invalidate(Kind, Key)
        end,
    {Options, apply_to(Operation, Model)}.

item({invalidate, _, _} = Item) -> Item;
item({put, resource, Key, {Size, Byte}}) -> {resource, Key, binary:copy(<<Byte>>, Size), #{n => Byte}};
item({put, tool, Key, {Size, Byte}}) -> {tool, Key, #{x => lists:duplicate(Size div 4, Byte)}, #{}}.

apply_to({invalidate, Kind, Key}, Model) ->
    maps:remove({Kind, Key}, Model);
apply_to({put, resource, Key, {Size, Byte}}, Model) ->
    Metadata = <<"{\"n\":", (integer_to_binary(Byte))/binary, "}">>,
    Model#{{resource, Key} => {binary:copy(<<Byte>>, Size), Metadata}};
apply_to({put, tool, Key, {Size, Byte}}, Model) ->
    Numbers = lists:join($,, lists:duplicate(Size div 4, integer_to_list(Byte))),
    Model#{{tool, Key} => {iolist_to_binary(["{\"x\":[", Numbers, "]}"]), <<"{}">>}}.
