%% Random programs of what happens to servers and to the bridge, after which the store holds what the servers list, and
%% nothing else. BRIDGE_PROGRAMS says how many programs.
-module(erlmcp_shm_bridge_prop_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(proper_types, [frequency/1, list/1, oneof/1, resize/2, sized/1]).

-define(B, erlmcp_shm_bridge).
-define(E, erlmcp_shm_exporter).
-define(S, erlmcp_shm_test_erlmcp).
%% Two servers that have the same names, and prefixes that keep them apart.
-define(SERVERS, [{bridge_prop_one, <<"1+">>}, {bridge_prop_two, <<"2+">>}]).

all() ->
    [store_is_what_servers_list].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, error),
    [{case_name, Case}, {level, Level} | Config].

end_per_testcase(_Case, Config) ->
    logger:set_primary_config(level, proplists:get_value(level, Config)),
    erlmcp_shm_test:stop().

store_is_what_servers_list(Config) ->
    Programs = list_to_integer(os:getenv("BRIDGE_PROGRAMS", "40")),
    Options = [{numtests, Programs}, {max_size, 50}, {to_file, user}],
    ?assert(proper:quickcheck(property(erlmcp_shm_test:path(Config)), Options)).

property(Base) ->
    Programs = sized(fun(Size) -> resize(2 * Size, list(step())) end),
    proper:forall({Programs, oneof([1, 1000]), oneof([keep, withdraw])}, fun({Program, Interval, OnDown}) ->
        Path = Base ++ integer_to_list(erlang:unique_integer([positive])),
        %% What the resources of this program hold, for all of them are functions.
        Values = ets:new(values, [public]),
        State = #{
            exporter => #{path => Path, size => 1 bsl 20},
            bridge => #{
                reconcile_interval => Interval,
                on_down => OnDown,
                servers => [#{server => Name, prefix => Prefix} || {Name, Prefix} <- ?SERVERS]
            },
            values => Values,
            model => #{}
        },
        _ = erlmcp_shm_test:start(maps:get(exporter, State)),
        [_ = ?S:start(Name, newest) || {Name, _} <- ?SERVERS],
        {ok, _} = ?B:start_link(maps:get(bridge, State)),
        try
            #{model := Model} = lists:foldl(fun step/2, State, Program),
            [ok = ?B:sync(Name) || {Name, _} <- ?SERVERS],
            Model =:= store()
        after
            erlmcp_shm_test:stop(?B),
            [erlmcp_shm_test:stop(Name) || {Name, _} <- ?SERVERS],
            erlmcp_shm_test:stop(),
            [file:delete(File) || File <- filelib:wildcard(Path ++ "*")]
        end
    end).

%% Everything in it, values of resources included.
store() ->
    {Writer, _} = erlmcp_shm_writer:held(),
    maps:from_list([
        begin
            {ok, Data, _} = ?E:lookup(Kind, Key),
            {{Kind, Key}, Data}
        end
     || Kind <- [resource, tool, prompt],
        {ok, {Entries, false}} <- [erlmcp_shm_nif:list(erlmcp_shm_writer:own(Writer), Kind, <<>>, 1000)],
        {Key, _, _} <- Entries
    ]).

%%% Steps

kind() ->
    oneof([resource, tool, prompt]).

key() ->
    oneof([<<"m:", N>> || N <- lists:seq($a, $f)]).

server() ->
    oneof(?SERVERS).

value() ->
    oneof([<<"0">>, <<"1">>, <<"2">>, <<"3">>]).

step() ->
    frequency([
        {20, {add, server(), kind(), key(), value()}},
        {8, {delete, server(), kind(), key()}},
        {6, {update, server(), key(), value()}},
        {2, {crash, server()}},
        {2, {crash_and_return, server()}},
        {1, kill_bridge},
        {1, stop_bridge},
        {1, kill_exporter},
        {1, stop_exporter},
        {2, {withdraw_by_hand, server(), kind(), key()}},
        {2, {sync, server()}},
        {2, {pause, oneof([0, 1, 5])}}
    ]).

step({add, {Name, Prefix}, Kind, Key, Value}, #{values := Values, model := Model} = State) ->
    ok =
        case Kind of
            resource ->
                true = ets:insert(Values, {{Name, Key}, Value}),
                ?S:add_resource(Name, Key, fun(Uri) -> ets:lookup_element(Values, {Name, Uri}, 2) end);
            tool ->
                ?S:add_tool(Name, Key, #{<<"v">> => Value});
            prompt ->
                ?S:add_prompt(Name, Key, [Value])
        end,
    State#{model := Model#{{Kind, <<Prefix/binary, Key/binary>>} => data(Kind, Value)}};
step({delete, {Name, Prefix}, Kind, Key}, #{model := Model} = State) ->
    _ = ?S:delete(Name, Kind, Key),
    State#{model := maps:remove({Kind, <<Prefix/binary, Key/binary>>}, Model)};
%% It is another, and that is said.
step({update, {Name, Prefix}, Key, Value}, #{values := Values, model := Model} = State) ->
    Place = {resource, <<Prefix/binary, Key/binary>>},
    true = ets:insert(Values, {{Name, Key}, Value}),
    ok = ?S:notify(Name, Key),
    case Model of
        #{Place := _} -> State#{model := Model#{Place := Value}};
        _ -> State
    end;
step({crash, Server}, State) ->
    crash(Server, State);
%% With all it had, as an application would do it.
step({crash_and_return, {Name, Prefix} = Server}, #{model := Model} = State) ->
    Had = [{Kind, Key, Data} || {{Kind, <<P:2/binary, Key/binary>>}, Data} <- maps:to_list(Model), P =:= Prefix],
    lists:foldl(
        fun({Kind, Key, Data}, Now) -> step({add, {Name, Prefix}, Kind, Key, value(Kind, Data)}, Now) end,
        crash(Server, State),
        Had
    );
step(kill_bridge, #{bridge := Options} = State) ->
    kill(whereis(?B)),
    {ok, _} = ?B:start_link(Options),
    State;
step(stop_bridge, #{bridge := Options} = State) ->
    ok = gen_server:stop(?B),
    {ok, _} = ?B:start_link(Options),
    State;
step(kill_exporter, #{exporter := Options} = State) ->
    kill(whereis(?E)),
    _ = erlmcp_shm_test:start(Options),
    State;
step(stop_exporter, #{exporter := Options} = State) ->
    ok = gen_server:stop(?E),
    _ = erlmcp_shm_test:start(Options),
    State;
step({withdraw_by_hand, {_, Prefix}, Kind, Key}, State) ->
    ok = ?E:invalidate(Kind, <<Prefix/binary, Key/binary>>),
    State;
step({sync, {Name, _}}, State) ->
    ok = ?B:sync(Name),
    State;
step({pause, Ms}, State) ->
    timer:sleep(Ms),
    State.

crash({Name, Prefix}, #{model := Model} = State) ->
    kill(whereis(Name)),
    _ = ?S:start(Name, newest),
    State#{model := maps:filter(fun({_, <<P:2/binary, _/binary>>}, _) -> P =/= Prefix end, Model)}.

kill(Pid) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end.

data(resource, Value) -> Value;
data(tool, Value) -> <<"{\"v\":\"", Value/binary, "\"}">>;
data(prompt, Value) -> <<"{\"arguments\":[{\"name\":\"", Value/binary, "\",\"required\":true}]}">>.

value(resource, Value) ->
    Value;
value(Kind, Data) ->
    [Value] = [Value || Value <- [<<"0">>, <<"1">>, <<"2">>, <<"3">>], data(Kind, Value) =:= Data],
    Value.
