%% What a handler asks of the client before it answers: as a result of its own since 2026-07-28, and as requests of the
%% server's before.
-module(erlmcp_shm_asks_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(CAN, #{<<"elicitation">> => #{}, <<"sampling">> => #{}, <<"roots">> => #{}}).

all() ->
    [
        modern_round,
        states_are_bound,
        wrong_inputs,
        capabilities,
        legacy_round,
        legacy_refused,
        legacy_cancelled,
        legacy_again,
        nothing_to_ask,
        over_http
    ].

init_per_testcase(Case, Config) ->
    Named = [{case_name, Case} | Config],
    _ = erlmcp_shm_test:start(#{path => erlmcp_shm_test:path(Named), size => 1 bsl 20}),
    Named.

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

%%% 2026-07-28

modern_round(_Config) ->
    S = endpoint(),
    [
        begin
            First = result(S, modern(Method, Params, ?CAN)),
            ?assertMatch(
                #{
                    <<"resultType">> := <<"input_required">>,
                    <<"inputRequests">> := #{<<"name">> := #{<<"method">> := <<"elicitation/create">>, <<"params">> := #{<<"message">> := <<"Name?">>}}},
                    <<"requestState">> := _
                },
                First
            ),
            %% With the answer, and one that nobody asked for.
            Second = result(S, modern(Method, answered(Params, First, #{<<"name">> => form(<<"Ada">>), <<"more">> => #{}}), ?CAN)),
            #{<<"inputRequests">> := #{<<"roots">> := #{<<"method">> := <<"roots/list">>}}} = Second,
            Last = result(S, modern(Method, answered(Params, Second, #{<<"roots">> => #{<<"roots">> => []}}), ?CAN)),
            ?assertEqual(<<"complete">>, maps:get(<<"resultType">>, Last)),
            ?assertNotEqual(nomatch, binary:match(json(Last), <<"Ada has 0 roots">>)),
            %% What is missing is asked for anew.
            ?assertMatch(#{<<"inputRequests">> := #{<<"name">> := _}}, result(S, modern(Method, answered(Params, First, #{}), ?CAN)))
        end
     || {Method, Params} <- requests()
    ].

states_are_bound(_Config) ->
    S = endpoint(),
    Params = #{<<"name">> => <<"x">>, <<"arguments">> => #{<<"a">> => 1}},
    Call = fun(Given) -> modern(<<"tools/call">>, Given, ?CAN) end,
    #{<<"requestState">> := State} = First = result(S, Call(Params)),
    Retry = answered(Params, First, #{<<"name">> => form(<<"Ada">>)}),
    ?assertMatch(#{<<"inputRequests">> := #{<<"roots">> := _}}, result(S, Call(Retry))),
    Altered = binary:replace(State, binary:part(State, 40, 1), case binary:part(State, 40, 1) of <<"A">> -> <<"B">>; _ -> <<"A">> end),
    Wrong = [
        Retry#{<<"requestState">> := Altered},
        Retry#{<<"requestState">> := <<State/binary, "AAAA">>},
        Retry#{<<"requestState">> := <<"nonsense">>},
        Retry#{<<"requestState">> := <<>>},
        Retry#{<<"requestState">> := 7},
        %% One of another request.
        Retry#{<<"arguments">> := #{<<"a">> => 2}},
        Retry#{<<"name">> := <<"y">>}
    ],
    [?assertMatch(#{<<"code">> := -32602}, refused(S, Call(Given))) || Given <- Wrong],
    ?assertMatch(#{<<"code">> := -32602}, refused(S, modern(<<"prompts/get">>, Retry, ?CAN))),
    %% Another session of the node takes it: there is none to remember it.
    ?assertMatch(#{<<"inputRequests">> := #{<<"roots">> := _}}, result(endpoint(), Call(Retry))).

wrong_inputs(_Config) ->
    S = endpoint(),
    Params = #{<<"name">> => <<"x">>},
    [
        ?assertMatch(#{<<"code">> := -32602}, refused(S, modern(<<"tools/call">>, Params#{<<"inputResponses">> => Inputs}, ?CAN)))
     || Inputs <- [<<"text">>, [], 1, null, #{<<"name">> => <<"Ada">>}, #{<<"name">> => null}]
    ],
    %% Methods that have no such thing do not look at it.
    ?assertMatch(#{<<"tools">> := []}, result(S, modern(<<"tools/list">>, #{<<"inputResponses">> => 1, <<"requestState">> => 1}, ?CAN))).

capabilities(_Config) ->
    S = endpoint(),
    Call = modern(<<"tools/call">>, #{<<"name">> => <<"x">>}, #{<<"roots">> => #{}}),
    {[{reply, 1, 400, Json}], _} = until_reply(S, Call),
    ?assertMatch(#{<<"error">> := #{<<"code">> := -32021, <<"data">> := #{<<"requiredCapabilities">> := #{<<"elicitation">> := #{}}}}}, term(Json)),
    %% Parts of a capability count by themselves.
    Table = [
        {{<<"elicitation/create">>, #{mode => <<"url">>}}, #{<<"elicitation">> => #{}}, #{<<"elicitation">> => #{<<"url">> => #{}}}},
        {{<<"elicitation/create">>, #{mode => <<"url">>}}, #{<<"elicitation">> => #{<<"url">> => #{}}}, none},
        {{<<"elicitation/create">>, #{mode => <<"form">>}}, #{<<"elicitation">> => #{}}, none},
        {{<<"sampling/createMessage">>, #{}}, #{}, #{<<"sampling">> => #{}}},
        {{<<"sampling/createMessage">>, #{tools => []}}, #{<<"sampling">> => #{}}, #{<<"sampling">> => #{<<"tools">> => #{}}}},
        {{<<"roots/list">>, #{}}, #{}, #{<<"roots">> => #{}}}
    ],
    [
        begin
            Asking = erlmcp_shm_endpoint:new(#{handler => fun(_, #{capabilities := Seen}) -> Can = Seen, {ask, #{<<"a">> => Request}, undefined} end}),
            {[{reply, 1, _, Answer}], _} = until_reply(Asking, modern(<<"tools/call">>, #{<<"name">> => <<"x">>}, Can)),
            case Required of
                none -> ?assertMatch(#{<<"result">> := #{<<"resultType">> := <<"input_required">>}}, term(Answer));
                _ -> ?assertMatch(#{<<"error">> := #{<<"data">> := #{<<"requiredCapabilities">> := Required}}}, term(Answer))
            end
        end
     || {Request, Can, Required} <- Table
    ].

%%% Until 2025-11-25

legacy_round(_Config) ->
    [
        begin
            {[{about, 1, Asked}], S1} = events(legacy(?CAN), request(1, Method, Params)),
            #{<<"id">> := Id1, <<"method">> := <<"elicitation/create">>, <<"params">> := #{<<"message">> := <<"Name?">>}} = term(Asked),
            ?assertEqual(1, erlmcp_shm_endpoint:pending(S1)),
            %% Others are served meanwhile, and an answer to nothing of ours is the owner's.
            {[{reply, 2, 200, _}], S2} = erlmcp_shm_endpoint:handle(request(2, <<"ping">>, #{}), S1),
            {[{owner, _}], S2} = erlmcp_shm_endpoint:handle(response(-1, #{}), S2),
            {[], S3} = erlmcp_shm_endpoint:handle(response(Id1, form(<<"Ada">>)), S2),
            {[{about, 1, Next}], S4} = message(S3),
            #{<<"id">> := Id2, <<"method">> := <<"roots/list">>} = term(Next),
            ?assertNotEqual(Id1, Id2),
            %% An answer counts once.
            {[{owner, _}], S4} = erlmcp_shm_endpoint:handle(response(Id1, form(<<"Eve">>)), S4),
            {[], S5} = erlmcp_shm_endpoint:handle(response(Id2, #{<<"roots">> => []}), S4),
            {[{reply, 1, 200, Done}], S6} = message(S5),
            ?assertNotEqual(nomatch, binary:match(Done, <<"Ada has 0 roots">>)),
            ?assertEqual(0, erlmcp_shm_endpoint:pending(S6))
        end
     || {Method, Params} <- requests()
    ].

legacy_refused(_Config) ->
    Call = request(1, <<"tools/call">>, #{<<"name">> => <<"both">>}),
    %% One who cannot is not asked.
    {[{reply, 1, 200, Lacks}], S0} = events(legacy(#{<<"roots">> => #{}}), Call),
    ?assertMatch(#{<<"error">> := #{<<"code">> := -32021}}, term(Lacks)),
    ?assertEqual(0, erlmcp_shm_endpoint:pending(S0)),
    %% Who refuses one of two gets that for an answer, and need not go on with the other.
    {[{about, 1, First}, {about, 1, Second}], S1} = events(legacy(?CAN), Call),
    #{<<"id">> := Id1} = term(First),
    #{<<"id">> := Id2} = term(Second),
    Refusal = json(#{jsonrpc => <<"2.0">>, id => Id1, error => #{code => -1, message => <<"User said no">>}}),
    {[], S2} = erlmcp_shm_endpoint:handle(Refusal, S1),
    {[{about, 1, Cancelled}, {reply, 1, 200, Answer}], S3} = message(S2),
    ?assertMatch(#{<<"method">> := <<"notifications/cancelled">>, <<"params">> := #{<<"requestId">> := Id2}}, term(Cancelled)),
    ?assertMatch(#{<<"error">> := #{<<"code">> := -1, <<"message">> := <<"User said no">>}}, term(Answer)),
    {[{owner, _}], S3} = erlmcp_shm_endpoint:handle(response(Id2, #{}), S3).

legacy_cancelled(_Config) ->
    {[{about, 1, Asked}], S1} = events(legacy(?CAN), request(1, <<"tools/call">>, #{<<"name">> => <<"x">>})),
    #{<<"id">> := Id} = term(Asked),
    Cancel = json(#{jsonrpc => <<"2.0">>, method => <<"notifications/cancelled">>, params => #{requestId => 1}}),
    {[{cancelled, 1}], S2} = erlmcp_shm_endpoint:handle(Cancel, S1),
    ?assertEqual(0, erlmcp_shm_endpoint:pending(S2)),
    {[{owner, _}], S2} = erlmcp_shm_endpoint:handle(response(Id, form(<<"Late">>)), S2),
    receive
        Late when element(1, Late) =:= erlmcp_shm_reply -> error(Late)
    after 100 -> ok
    end.

%% Nothing is asked: the handler is called again with its state, and not at once.
legacy_again(_Config) ->
    Handler = fun
        (_, #{state := again}) -> {ok, <<"now">>};
        (_, #{state := undefined}) -> {ask, #{}, again}
    end,
    Start = erlang:monotonic_time(millisecond),
    {[{reply, 1, 200, Json}], _} = events(legacy(?CAN, Handler), request(1, <<"tools/call">>, #{<<"name">> => <<"x">>})),
    ?assertMatch(#{<<"result">> := #{<<"content">> := [#{<<"text">> := <<"now">>}]}}, term(Json)),
    ?assert(erlang:monotonic_time(millisecond) - Start >= 1000).

%% A handler's mistake ends its call and nothing else.
nothing_to_ask(_Config) ->
    Wrong = [
        {ask, #{}, undefined},
        {ask, nonsense, undefined},
        {ask, #{<<"a">> => {<<"tools/list">>, #{}}}, undefined},
        {ask, #{<<"a">> => <<"roots/list">>}, undefined},
        {ask, #{a => {<<"roots/list">>, #{}}}, undefined},
        {ask, #{<<"a">> => {<<"roots/list">>, #{pid => self()}}}, undefined}
    ],
    [
        begin
            S = erlmcp_shm_endpoint:new(#{handler => fun(_, _) -> Reply end}),
            ?assertMatch(#{<<"code">> := -32603}, refused(S, modern(<<"tools/call">>, #{<<"name">> => <<"x">>}, ?CAN)))
        end
     || Reply <- Wrong
    ],
    [
        begin
            S = legacy(?CAN, fun(_, _) -> Reply end),
            ?assertMatch(#{<<"code">> := -32603}, refused(S, request(1, <<"tools/call">>, #{<<"name">> => <<"x">>})))
        end
     || Reply <- tl(Wrong)
    ],
    %% Completions and templates have nothing to ask for.
    Asks = erlmcp_shm_endpoint:new(#{handler => fun(_, _) -> {ask, #{<<"a">> => {<<"roots/list">>, #{}}}, undefined} end}),
    ?assertMatch(#{<<"code">> := -32603}, refused(Asks, modern(<<"resources/templates/list">>, #{}, ?CAN))).

%% The question comes through the stream of the request, the answer is posted by itself.
over_http(_Config) ->
    {ok, Transport} = erlmcp_shm_transport_http:start_link(#{port => 0, handler => fun handler/2}, self()),
    #{port := Port} = erlmcp_shm_transport_http:get_info(Transport),
    Headers = [{"content-type", "application/json"}, {"accept", "application/json, text/event-stream"}],
    Begin = request(1, <<"initialize">>, #{<<"protocolVersion">> => <<"2025-11-25">>, <<"capabilities">> => ?CAN}),
    {200, #{<<"mcp-session-id">> := Id}, _} = erlmcp_shm_wire:request(Port, "POST", "/mcp", Headers, Begin),
    Session = [{"mcp-session-id", Id} | Headers],
    C = erlmcp_shm_wire:open(Port),
    ok = erlmcp_shm_wire:send(C, "POST /mcp", Session, request(2, <<"tools/call">>, #{<<"name">> => <<"x">>})),
    {{200, #{<<"content-type">> := <<"text/event-stream">>}}, C1} = erlmcp_shm_wire:head(C),
    Answers = [form(<<"Ada">>), #{<<"roots">> => []}],
    Last = lists:foldl(
        fun(Answer, Conn) ->
            {{<<"message">>, Asked}, Next} = erlmcp_shm_wire:event(Conn),
            #{<<"id">> := Number, <<"method">> := _} = term(Asked),
            {202, _, <<>>} = erlmcp_shm_wire:request(Port, "POST", "/mcp", Session, response(Number, Answer)),
            Next
        end,
        C1,
        Answers
    ),
    {{<<"message">>, Done}, Ended} = erlmcp_shm_wire:event(Last),
    ?assertMatch(#{<<"id">> := 2, <<"result">> := #{<<"content">> := [#{<<"text">> := <<"Ada has 0 roots">>}]}}, term(Done)),
    {fin, _} = erlmcp_shm_wire:event(Ended),
    ok = erlmcp_shm_transport_http:close(Transport).

%%% The handler: asks for a name, and then for the roots of whoever that is

handler({call_tool, <<"both">>, _}, _) ->
    {ask, #{<<"a">> => {<<"roots/list">>, #{}}, <<"b">> => {<<"elicitation/create">>, #{message => <<"Name?">>}}}, undefined};
handler(Request, #{state := {name, Name}, inputs := #{<<"roots">> := #{<<"roots">> := Roots}}}) ->
    Text = <<Name/binary, " has ", (integer_to_binary(length(Roots)))/binary, " roots">>,
    case Request of
        {get_prompt, _, _} -> {ok, #{messages => [#{role => <<"user">>, content => #{type => <<"text">>, text => Text}}]}};
        _ -> {ok, Text}
    end;
handler(_, #{state := begun, inputs := #{<<"name">> := #{<<"content">> := #{<<"name">> := Name}}}}) ->
    {ask, #{<<"roots">> => {<<"roots/list">>, #{}}}, {name, Name}};
handler(_, _) ->
    {ask, #{<<"name">> => {<<"elicitation/create">>, #{message => <<"Name?">>}}}, begun}.

%% Whose answer may need the client's input.
requests() ->
    [
        {<<"tools/call">>, #{<<"name">> => <<"x">>, <<"arguments">> => #{<<"a">> => 1}}},
        {<<"prompts/get">>, #{<<"name">> => <<"x">>}},
        {<<"resources/read">>, #{<<"uri">> => <<"mem:x">>}}
    ].

%%% Helpers

endpoint() ->
    erlmcp_shm_endpoint:new(#{handler => fun handler/2}).

legacy(Can) ->
    legacy(Can, fun handler/2).

legacy(Can, Handler) ->
    Begin = request(0, <<"initialize">>, #{<<"protocolVersion">> => <<"2025-11-25">>, <<"capabilities">> => Can}),
    {[{reply, 0, 200, _}], S} = erlmcp_shm_endpoint:handle(Begin, erlmcp_shm_endpoint:new(#{handler => Handler})),
    S.

modern(Method, Params, Can) ->
    Meta = #{<<"io.modelcontextprotocol/protocolVersion">> => <<"2026-07-28">>, <<"io.modelcontextprotocol/clientCapabilities">> => Can},
    request(1, Method, Params#{<<"_meta">> => Meta}).

request(Id, Method, Params) ->
    json(#{jsonrpc => <<"2.0">>, id => Id, method => Method, params => Params}).

response(Id, Result) ->
    json(#{jsonrpc => <<"2.0">>, id => Id, result => Result}).

answered(Params, Result, Inputs) ->
    (maps:merge(Params, maps:with([<<"requestState">>], Result)))#{<<"inputResponses">> => Inputs}.

form(Name) ->
    #{<<"action">> => <<"accept">>, <<"content">> => #{<<"name">> => Name}}.

json(Term) ->
    {ok, Json} = erlmcp_shm_json:encode(Term),
    Json.

term(Json) ->
    {ok, Term} = erlmcp_shm_json:decode(Json),
    Term.

result(S, Text) ->
    maps:get(<<"result">>, answer(S, Text)).

refused(S, Text) ->
    maps:get(<<"error">>, answer(S, Text)).

answer(S, Text) ->
    {[{reply, _, _, Json}], New} = until_reply(S, Text),
    ?assertEqual(0, erlmcp_shm_endpoint:pending(New)),
    term(Json).

until_reply(S, Text) ->
    case erlmcp_shm_endpoint:handle(Text, S) of
        {[], Waiting} -> message(Waiting);
        Done -> Done
    end.

%% What comes next of a request that a handler works at.
events(S, Text) ->
    {[], Waiting} = erlmcp_shm_endpoint:handle(Text, S),
    message(Waiting).

message(S) ->
    receive
        Message when element(1, Message) =:= erlmcp_shm_reply; element(1, Message) =:= erlmcp_shm_ask ->
            erlmcp_shm_endpoint:info(Message, S)
    after 10000 -> error(nothing)
    end.
