%% End to end: the Rust client of all tiers, configured by its config.toml, with a node that was started as
%% config/claude_flow.config says; over each transport, in each revision of the protocol that it has. What shared
%% memory answers and what the node answers is the same.
-module(erlmcp_shm_client_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(erlmcp_shm_test_client, [ask/2, ask/3]).

-define(C, erlmcp_shm_test_client).

all() ->
    [
        websocket,
        websocket_initialize,
        http,
        http_initialize,
        sse,
        stdio,
        stdio_initialize,
        names_of_metrics
    ].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

websocket(Config) -> over(websocket, stateless, Config).
websocket_initialize(Config) -> over(websocket, initialize, Config).
http(Config) -> over(http, stateless, Config).
http_initialize(Config) -> over(http, initialize, Config).
sse(Config) -> over(sse, initialize, Config).
stdio(Config) -> over(stdio, stateless, Config).
stdio_initialize(Config) -> over(stdio, initialize, Config).

%% One client after the other: over stdio each has a node of its own, and a store has one writer at a time.
over(Transport, Revision, Config) ->
    Port = ?C:free_port(),
    File = ?C:configured(Config, Port),
    Nodes = [node_at(File, Port) || Transport =/= stdio],
    %% What the node says of itself at the start of a conversation is there before those that are compared.
    _ = with_client(Transport, Revision, false, File, Config, fun(C) -> call(C, <<"seed">>, #{}) end),
    Without = with_client(Transport, Revision, false, File, Config, fun(C) -> answers(C, Revision, false) end),
    With = with_client(Transport, Revision, true, File, Config, fun(C) -> answers(C, Revision, true) end),
    ?assertEqual([Question || {Question, _} <- Without], [Question || {Question, _} <- With]),
    ?assertEqual([], [{Far, Near} || {Far, Near} <- lists:zip(Without, With), bare(Far) =/= bare(Near)]),
    [ok = ?C:kill_node(Node) || Node <- Nodes].

%% Since 2026-07-28 an answer says of which type it is, and who gave it: not so in older revisions, and shared memory
%% is nobody.
bare({Question, #{} = Answer}) ->
    Meta = maps:remove(<<"io.modelcontextprotocol/serverInfo">>, maps:get(<<"_meta">>, Answer, #{})),
    Rest = maps:without([<<"resultType">>, <<"_meta">>], Answer),
    {Question, Rest, Meta};
bare(Answer) ->
    Answer.

node_at(File, Port) ->
    Node = ?C:start_node(File),
    ok = ?C:await_port(Port),
    Node.

%% Nothing expires while the test looks at it.
with_client(Transport, Revision, L2, File, Config, Fun) ->
    Options = #{transport => atom_to_list(Transport), l2 => L2, more => "l1.ttl = \"10m\"\n"},
    Client = ?C:start(?C:toml(Config, File, Options), Revision),
    Answers = Fun(Client),
    {ok, [[Name, true, true]]} = ask(Client, transports),
    ?assertEqual(atom_to_binary(Transport), Name),
    ok = ?C:stop(Client),
    Answers.

%%% What is asked, and from where it must come

answers(Client, Revision, L2) ->
    ?assertEqual(<<"seeded">>, call(Client, <<"seed">>, #{})),
    Spoken =
        case Revision of
            stateless -> <<"2026-07-28">>;
            initialize -> <<"initialized">>
        end,
    ?assertEqual(Spoken, call(Client, <<"revision">>, #{})),
    ?assertEqual(<<"42">>, call(Client, <<"add">>, #{a => 40, b => 2})),
    {ok, #{<<"isError">> := true}} = ask(Client, call_tool, #{name => <<"fails">>}),
    ?assertEqual({error, <<"Refused">>}, ask(Client, call_tool, #{name => <<"unknown">>})),
    Published = published(Client, L2),
    %% Only the server knows whether there is more.
    {ok, null} = ask(Client, refresh),
    Listed = lists(Client, <<"L3">>),
    _ = lists(Client, <<"L1">>),
    Made = made(Client, L2),
    Changed = changes(Client, L2),
    ?assertEqual(<<"complete">>, call(Client, <<"complete">>, #{})),
    {ok, null} = ask(Client, refresh),
    Complete = lists(Client, tier(L2, <<"L2">>)),
    Published ++ Listed ++ Made ++ Changed ++ [{{complete, Question}, Answer} || {Question, Answer} <- Complete].

tier(true, Tier) -> Tier;
tier(false, _) -> <<"L3">>.

%% Twice: the second time it is in the process, if that has a tier of its own.
published(Client, L2) ->
    Questions =
        [{read_resource, Uri, #{}} || Uri <- [<<"file:///a.txt">>, <<"file:///dir/b.json">>, <<"file:///dir/c">>, <<"untyped">>, <<"untyped:bytes/">>]] ++
            [{tool_schema, <<"add">>, #{}}] ++
            [{get_prompt, <<"greet">>, #{who => <<"Ann">>, tongue => <<"{{who}}">>}}, {get_prompt, <<"greet">>, #{who => <<"Bob">>}}, {get_prompt, <<"plain">>, #{}}] ++
            [{capability, Name, #{}} || Name <- [<<"resources">>, <<"tools">>, <<"prompts">>, <<"server_info">>, <<"instructions">>]],
    [
        begin
            {Answer, Tier, Version} = answer(Client, Question),
            case L2 of
                true ->
                    %% The same entry may have been asked for before, with other arguments.
                    ?assert(lists:member(Tier, [<<"L1">>, <<"L2">>]), {Question, Tier}),
                    ?assert(is_integer(Version)),
                    ?assertEqual({Answer, <<"L1">>, Version}, answer(Client, Question)),
                    {_, <<"L3">>, null} = answer(Client, Question, #{cache => <<"bypass">>});
                false ->
                    ?assertEqual({<<"L3">>, null}, {Tier, Version}),
                    {Answer, _, null} = answer(Client, Question)
            end,
            {Question, Answer}
        end
     || Question <- Questions
    ].

lists(Client, Expected) ->
    [
        begin
            {Answer, Tier, null} = answer(Client, {List, <<>>, #{}}),
            ?assertEqual({List, Expected}, {List, Tier}),
            {List, Answer}
        end
     || List <- [list_resources, list_tools, list_prompts]
    ].

%% What is not published the node makes when it is asked; a prompt of arguments is kept for nobody.
made(Client, L2) ->
    Read = {read_resource, <<"made:it">>, #{}},
    Get = {get_prompt, <<"made">>, #{x => <<"1">>}},
    {Text, <<"L3">>, null} = answer(Client, Read),
    {Text, Again, null} = answer(Client, Read),
    ?assertEqual(<<"L1">>, Again),
    {Text, <<"L3">>, null} = answer(Client, Read, #{cache => <<"refresh">>}),
    {Prompt, <<"L3">>, null} = answer(Client, Get),
    {Prompt, <<"L3">>, null} = answer(Client, Get),
    ?assertEqual({error, <<"Refused">>}, ask(Client, read_resource, #{name => <<"file:///nothing">>})),
    ?assertEqual({error, <<"MissingArgument">>} =:= ask(Client, get_prompt, #{name => <<"greet">>}), L2),
    [{Read, Text}, {Get, Prompt}].

%% A change is told; in shared memory it is seen whether it was told or not.
changes(Client, L2) ->
    Uri = <<"file:///told">>,
    Read = {read_resource, Uri, #{}},
    {ok, null} = ask(Client, subscribe, #{name => Uri}),
    _ = call(Client, <<"publish">>, #{uri => Uri, text => <<"v1">>}),
    %% The subscription goes its own way: until it is there, nothing is told.
    ok = told(Client, #{<<"updated">> => Uri}, fun() -> call(Client, <<"publish">>, #{uri => Uri, text => <<"v2">>}) end),
    {V2, _, Version2} = answer(Client, Read),
    %% News of it that come late take it out of the process once more.
    erlmcp_shm_test:eventually(fun() -> {V2, <<"L1">>, Version2} =:= answer(Client, Read) end),
    _ = call(Client, <<"publish">>, #{uri => Uri, text => <<"v3">>}),
    L2 orelse erlmcp_shm_test:eventually(fun() -> V2 =/= element(1, answer(Client, Read)) end),
    {V3, Tier3, Version3} = answer(Client, Read),
    ?assert(V3 =/= V2 andalso (not L2 orelse {Tier3, Version3 > Version2} =:= {<<"L2">>, true})),
    _ = call(Client, <<"withdraw">>, #{uri => Uri}),
    Gone = fun() -> {error, <<"Refused">>} =:= ask(Client, read_resource, #{name => Uri}) end,
    case L2 of
        true -> ?assert(Gone());
        false -> erlmcp_shm_test:eventually(Gone)
    end,
    [{v2, V2}, {v3, V3}].

told(Client, News, Again) ->
    _ = Again(),
    case ask(Client, next_change) of
        {ok, News} -> ok;
        {ok, _} -> told(Client, News, Again)
    end.

call(Client, Name, Arguments) ->
    {ok, #{<<"content">> := [#{<<"text">> := Text}]}} = ask(Client, call_tool, #{name => Name, arguments => Arguments}),
    Text.

answer(Client, Question) ->
    answer(Client, Question, #{}).

answer(Client, {Do, Name, Arguments}, More) ->
    {ok, Answer, Tier, Version} = ask(Client, Do, More#{name => Name, arguments => Arguments}),
    {Answer, Tier, Version}.

%%% Metrics

%% What client and node both show, they call the same, and it is of the same kind.
names_of_metrics(Config) ->
    Port = ?C:free_port(),
    File = ?C:configured(Config, Port),
    Node = node_at(File, Port),
    Options = #{transport => "hybrid", l2 => true},
    Client = ?C:start(?C:toml(Config, File, Options), stateless),
    <<"seeded">> = call(Client, <<"seed">>, #{}),
    {ok, Text} = ask(Client, prometheus),
    Types = [
        list_to_tuple(binary:split(Type, <<" ">>))
     || <<"# TYPE ", Type/binary>> <- binary:split(Text, <<"\n">>, [global, trim])
    ],
    ?assertEqual([{Name, atom_to_binary(Type)} || {Name, Type} <- erlmcp_shm_metrics:families()], Types),
    ok = ?C:stop(Client),
    ok = ?C:kill_node(Node).
