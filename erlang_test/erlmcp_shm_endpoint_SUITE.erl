%% The MCP endpoint by itself: what each method answers in each revision of the protocol, handlers and their end, and
%% what a session is told of by itself.
-module(erlmcp_shm_endpoint_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(MODERN, <<"2026-07-28">>).

all() ->
    [
        json_terms,
        eras,
        malformed,
        resources,
        tools,
        prompts,
        pages,
        templates_and_completion,
        handler_of_the_node,
        handler_deadline,
        handler_cancelled,
        handler_crash,
        handler_dies_with_session,
        progress_and_log,
        legacy_subscriptions,
        listen,
        coalesced,
        reports
    ].

init_per_testcase(Case, Config) ->
    Named = [{case_name, Case} | Config],
    _ = erlmcp_shm_test:start(#{path => erlmcp_shm_test:path(Named), size => 1 bsl 20}),
    Named.

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

%%% JSON

json_terms(_Config) ->
    Table = [
        {"null", null},
        {"[true,false]", [true, false]},
        {"-9223372036854775808", -(1 bsl 63)},
        {"18446744073709551615", 1 bsl 64 - 1},
        {"1.5", 1.5},
        {"1e3", 1000.0},
        {" {\"a\" : [1,{\"b\":\"\\u00e9\\n\"}], \"c\":{}} ", #{<<"a">> => [1, #{<<"b">> => <<"é\n"/utf8>>}], <<"c">> => #{}}},
        {"{\"a\":1,\"a\":2}", #{<<"a">> => 2}},
        {"\"\"", <<>>}
    ],
    [?assertEqual({ok, Term}, erlmcp_shm_json:decode(list_to_binary(Text))) || {Text, Term} <- Table],
    Bad = [<<>>, <<"{">>, <<"{}{}">>, <<"nope">>, <<"\"", 255, "\"">>, <<"1e999">>, <<"\"\\ud800\"">>, binary:copy(<<"[">>, 1000000)],
    [?assertEqual({error, {not_json, []}}, erlmcp_shm_json:decode(Text)) || Text <- Bad],
    %% Too long for a normal scheduler, and the same.
    Long = lists:seq(1, 50000),
    {ok, Text} = erlmcp_shm_json:encode(Long),
    ?assertEqual(busy, erlmcp_shm_nif:decode_json(Text)),
    ?assertEqual({ok, Long}, erlmcp_shm_json:decode(Text)),
    %% JSON inside of a term becomes one line, and has to be JSON.
    ?assertEqual({ok, <<"{\"a\":[{ \"b\": \"\\n\"  }]}">>}, erlmcp_shm_json:encode(#{a => [{json, <<"{\n\"b\":\r\"\\n\" \n}">>}]})),
    ?assertEqual({error, {not_json, [a, 0]}}, erlmcp_shm_json:encode(#{a => [{json, <<"{">>}]})),
    Deep = binary:copy(<<"[">>, 119),
    ?assertMatch({ok, _}, erlmcp_shm_json:encode([{json, <<Deep/binary, (binary:copy(<<"]">>, 119))/binary>>}])),
    ?assertMatch({error, _}, erlmcp_shm_json:encode([[{json, <<Deep/binary, (binary:copy(<<"]">>, 119))/binary>>}]])).

%%% Revisions

eras(_Config) ->
    S0 = erlmcp_shm_endpoint:new(#{}),
    %% Stateless.
    {#{<<"resultType">> := <<"complete">>, <<"supportedVersions">> := [?MODERN | _], <<"ttlMs">> := 10000} = Found, S0} =
        ok(modern(1, <<"server/discover">>, #{}), S0),
    #{<<"cacheScope">> := <<"public">>, <<"_meta">> := #{<<"io.modelcontextprotocol/serverInfo">> := #{<<"name">> := _}}} = Found,
    #{<<"capabilities">> := #{<<"resources">> := #{<<"subscribe">> := true, <<"listChanged">> := true}, <<"logging">> := #{}}} = Found,
    {{200, #{<<"code">> := -32602}}, _} = refused(request(1, <<"resources/read">>, #{<<"_meta">> => meta()}), S0),
    {{404, #{<<"code">> := -32601}}, _} = refused(modern(1, <<"ping">>, #{}), S0),
    {{404, #{<<"code">> := -32601}}, _} = refused(modern(1, <<"initialize">>, #{}), S0),
    {{400, #{<<"code">> := -32602}}, _} = refused(request(1, <<"tools/list">>, #{}), S0),
    {{400, #{<<"code">> := -32602}}, _} =
        refused(request(1, <<"tools/list">>, #{<<"_meta">> => maps:without([<<"io.modelcontextprotocol/clientCapabilities">>], meta())}), S0),
    [
        {{400, #{<<"code">> := -32602}}, _} =
            refused(request(1, <<"tools/list">>, #{<<"_meta">> => (meta())#{<<"io.modelcontextprotocol/logLevel">> => Level}}), S0)
     || Level <- [<<"loud">>, 1, null]
    ],
    {{400, #{<<"code">> := -32022, <<"data">> := #{<<"requested">> := <<"1900-01-01">>, <<"supported">> := [?MODERN | _]}}}, _} =
        refused(request(1, <<"tools/list">>, #{<<"_meta">> => (meta())#{<<"io.modelcontextprotocol/protocolVersion">> => <<"1900-01-01">>}}), S0),
    %% With a session.
    [
        begin
            {#{<<"protocolVersion">> := Got} = Result, S1} =
                ok(request(<<"i">>, <<"initialize">>, #{<<"protocolVersion">> => Asked, <<"capabilities">> => #{}}), S0),
            ?assertEqual(false, is_map_key(<<"resultType">>, Result)),
            {Pong, _} = ok(request(2, <<"ping">>, #{}), S1),
            ?assertEqual(#{}, Pong),
            {#{<<"tools">> := [], <<"ttlMs">> := _, <<"cacheScope">> := _} = List, _} = ok(request(3, <<"tools/list">>, #{}), S1),
            ?assertEqual(false, is_map_key(<<"resultType">>, List)),
            {{200, #{<<"code">> := -32601}}, _} = refused(request(4, <<"server/discover">>, #{}), S1),
            {{200, #{<<"code">> := -32601}}, _} = refused(request(4, <<"no/such">>, #{}), S1),
            %% Both eras side by side.
            {#{<<"resultType">> := _}, _} = ok(modern(5, <<"tools/list">>, #{}), S1)
        end
     || {Asked, Got} <- [
            {<<"2025-11-25">>, <<"2025-11-25">>}, {<<"2025-06-18">>, <<"2025-06-18">>}, {<<"2025-03-26">>, <<"2025-11-25">>},
            {<<"2030-01-01">>, <<"2025-11-25">>}
        ]
    ],
    ok = erlmcp_shm_exporter:export_capability(<<"server_info">>, #{name => <<"mine">>, version => <<"7">>}, #{}),
    ok = erlmcp_shm_exporter:export_capability(<<"instructions">>, {json, <<"\"Ask nicely\"">>}, #{}),
    ok = erlmcp_shm_exporter:export_capability(<<"extensions">>, #{'com.example/x' => #{}}, #{}),
    {#{<<"serverInfo">> := #{<<"name">> := <<"mine">>}, <<"instructions">> := <<"Ask nicely">>, <<"capabilities">> := Capabilities}, _} =
        ok(request(1, <<"initialize">>, #{<<"protocolVersion">> => <<"2025-11-25">>}), S0),
    ?assertMatch(#{<<"extensions">> := #{<<"com.example/x">> := #{}}, <<"logging">> := #{}}, Capabilities),
    ?assertEqual(false, is_map_key(<<"server_info">>, Capabilities)).

malformed(_Config) ->
    S = erlmcp_shm_endpoint:new(#{}),
    Table = [
        {<<"nonsense">>, -32700},
        {<<>>, -32700},
        {<<"[]">>, -32600},
        {<<"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]">>, -32600},
        {<<"1">>, -32600},
        {<<"{}">>, -32600},
        {<<"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}">>, -32600},
        {<<"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}">>, -32600},
        {<<"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"ping\"}">>, -32600},
        {<<"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}">>, -32600}
    ],
    [
        begin
            {[{reply, undefined, 400, Json}], S} = erlmcp_shm_endpoint:handle(Text, S),
            {ok, Answer} = erlmcp_shm_json:decode(Json),
            ?assertMatch({Text, #{<<"error">> := #{<<"code">> := Code}}}, {Text, Answer}),
            ?assertEqual(false, is_map_key(<<"id">>, Answer))
        end
     || {Text, Code} <- Table
    ],
    {{400, #{<<"code">> := -32602}}, _} = refused(<<"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":[]}">>, S),
    %% What is not for the endpoint goes to the owner.
    Answer = <<"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}">>,
    ?assertMatch({[{owner, Answer}], _}, erlmcp_shm_endpoint:handle(Answer, S)),
    Note = <<"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/other\"}">>,
    ?assertMatch({[{owner, Note}], _}, erlmcp_shm_endpoint:handle(Note, S)).

%%% What is published

resources(_Config) ->
    S = erlmcp_shm_endpoint:new(#{}),
    ok = erlmcp_shm_exporter:export_resource(<<"file:///d/a.txt">>, <<"é"/utf8>>, #{
        mime_type => <<"text/plain">>, title => <<"A">>, 'com.example/x' => 1, ttl_ms => 5, cache_scope => <<"private">>
    }),
    ok = erlmcp_shm_exporter:export_resource(<<"file:///d/b.bin">>, <<255, 0>>, #{mimeType => <<"text/plain">>, name => <<"B">>}),
    ok = erlmcp_shm_exporter:export_resource(<<"file:///d/c.png">>, <<"text">>, #{mime_type => <<"image/png">>}),
    ok = erlmcp_shm_exporter:export_resource(<<"file:///d/d.svg">>, <<"<svg/>">>, #{mime_type => <<"image/svg+xml; charset=utf-8">>}),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:e">>, <<"plain">>, #{}),
    %% A key that is no text cannot be asked for, and spoils no list.
    ok = erlmcp_shm_exporter:export_resource(<<255>>, <<"hidden">>, #{}),
    {#{<<"resources">> := Listed, <<"ttlMs">> := 10000, <<"cacheScope">> := <<"public">>}, _} = ok(modern(1, <<"resources/list">>, #{}), S),
    ?assertEqual(
        [
            #{
                <<"uri">> => <<"file:///d/a.txt">>,
                <<"name">> => <<"a.txt">>,
                <<"title">> => <<"A">>,
                <<"mimeType">> => <<"text/plain">>,
                <<"_meta">> => #{<<"com.example/x">> => 1}
            },
            #{<<"uri">> => <<"file:///d/b.bin">>, <<"name">> => <<"B">>, <<"mimeType">> => <<"text/plain">>},
            #{<<"uri">> => <<"file:///d/c.png">>, <<"name">> => <<"c.png">>, <<"mimeType">> => <<"image/png">>},
            #{<<"uri">> => <<"file:///d/d.svg">>, <<"name">> => <<"d.svg">>, <<"mimeType">> => <<"image/svg+xml; charset=utf-8">>},
            #{<<"uri">> => <<"mem:e">>, <<"name">> => <<"mem:e">>}
        ],
        Listed
    ),
    Read = fun(Uri) ->
        {#{<<"contents">> := [Contents]} = Result, _} = ok(modern(1, <<"resources/read">>, #{<<"uri">> => Uri}), S),
        {Contents, maps:with([<<"ttlMs">>, <<"cacheScope">>], Result)}
    end,
    timer:sleep(20),
    ?assertMatch(
        {#{<<"text">> := <<"é"/utf8>>, <<"mimeType">> := <<"text/plain">>, <<"uri">> := <<"file:///d/a.txt">>}, #{<<"ttlMs">> := 5, <<"cacheScope">> := <<"private">>}},
        Read(<<"file:///d/a.txt">>)
    ),
    ?assertMatch({#{<<"blob">> := <<"/wA=">>}, #{<<"ttlMs">> := 10000}}, Read(<<"file:///d/b.bin">>)),
    ?assertMatch({#{<<"blob">> := <<"dGV4dA==">>}, _}, Read(<<"file:///d/c.png">>)),
    ?assertMatch({#{<<"text">> := <<"<svg/>">>}, _}, Read(<<"file:///d/d.svg">>)),
    ?assertMatch({#{<<"text">> := <<"plain">>}, _}, Read(<<"mem:e">>)),
    Nothing = #{<<"uri">> => <<"mem:none">>},
    {{200, #{<<"code">> := -32602, <<"data">> := Nothing}}, _} = refused(modern(1, <<"resources/read">>, Nothing), S),
    {{200, #{<<"code">> := -32002, <<"data">> := Nothing}}, _} = refused(request(1, <<"resources/read">>, Nothing), legacy(S)),
    %% Made on request, where nothing is published.
    Dynamic = erlmcp_shm_endpoint:new(#{
        handler => fun
            ({read_resource, <<"mem:", N/binary>>}, _) when N =/= <<"none">> -> {ok, <<"made ", N/binary>>};
            (_, _) -> {error, not_found}
        end
    }),
    {#{<<"contents">> := [#{<<"text">> := <<"made 7">>}], <<"ttlMs">> := _}, _} = ok(modern(1, <<"resources/read">>, #{<<"uri">> => <<"mem:7">>}), Dynamic),
    {#{<<"contents">> := [#{<<"text">> := <<"plain">>}]}, _} = ok(modern(1, <<"resources/read">>, #{<<"uri">> => <<"mem:e">>}), Dynamic),
    {{200, #{<<"code">> := -32602}}, _} = refused(modern(1, <<"resources/read">>, Nothing), Dynamic).

tools(_Config) ->
    Schema = <<"{\n \"type\": \"object\", \"b\": 1, \"a\": 12345678901234567890123}">>,
    ok = erlmcp_shm_exporter:export_tool_schema(<<"add">>, {json, Schema}, #{
        description => <<"Adds">>, output_schema => #{type => <<"object">>}, annotations => #{readOnlyHint => true}
    }),
    S = erlmcp_shm_endpoint:new(#{
        handler => fun
            ({call_tool, <<"add">>, #{<<"a">> := A, <<"b">> := B}}, _) -> {ok, #{content => [], structuredContent => #{sum => A + B}}};
            ({call_tool, <<"add">>, _}, _) -> {error, <<"a and b, please">>};
            ({call_tool, <<"say">>, _}, _) -> {ok, <<"hello">>};
            ({call_tool, <<"odd">>, _}, _) -> {ok, #{content => self()}};
            ({call_tool, <<"code">>, _}, _) -> {error, {-5, <<"mine">>}};
            (_, _) -> {error, not_found}
        end
    }),
    {[{reply, 1, 200, Text}], _} = erlmcp_shm_endpoint:handle(modern(1, <<"tools/list">>, #{}), S),
    %% A schema comes as it was published, its line breaks excepted: those end a message on stdio.
    ?assertNotEqual(nomatch, binary:match(Text, binary:replace(Schema, <<"\n">>, <<" ">>))),
    ?assertEqual(nomatch, binary:match(Text, <<"\n">>)),
    {#{<<"tools">> := [Tool]}, _} = ok(modern(1, <<"tools/list">>, #{}), S),
    ?assertMatch(#{<<"name">> := <<"add">>, <<"description">> := <<"Adds">>, <<"outputSchema">> := #{}, <<"annotations">> := #{}}, Tool),
    Call = fun(Name, Args) -> modern(1, <<"tools/call">>, #{<<"name">> => Name, <<"arguments">> => Args}) end,
    {#{<<"structuredContent">> := #{<<"sum">> := 3}, <<"resultType">> := <<"complete">>}, _} = ok(Call(<<"add">>, #{a => 1, b => 2}), S),
    {#{<<"isError">> := true, <<"content">> := [#{<<"text">> := <<"a and b, please">>}]}, _} = ok(Call(<<"add">>, #{}), S),
    {#{<<"isError">> := false, <<"content">> := [#{<<"text">> := <<"hello">>}]}, _} = ok(Call(<<"say">>, #{}), S),
    {{200, #{<<"code">> := -32602, <<"message">> := <<"Unknown tool: none">>}}, _} = refused(Call(<<"none">>, #{}), S),
    {{200, #{<<"code">> := -32603}}, _} = refused(Call(<<"odd">>, #{}), S),
    {{200, #{<<"code">> := -5, <<"message">> := <<"mine">>}}, _} = refused(Call(<<"code">>, #{}), S),
    {{200, #{<<"code">> := -32602}}, _} = refused(modern(1, <<"tools/call">>, #{<<"name">> => <<"add">>, <<"arguments">> => []}), S),
    {{200, #{<<"code">> := -32602}}, _} = refused(modern(1, <<"tools/call">>, #{}), S),
    {{200, #{<<"code">> := -32602}}, _} = refused(Call(<<"add">>, #{}), erlmcp_shm_endpoint:new(#{})).

prompts(_Config) ->
    S = erlmcp_shm_endpoint:new(#{handler => fun
        ({get_prompt, <<"made">>, Args}, _) -> {ok, #{messages => [Args]}};
        (_, _) -> {error, not_found}
    end}),
    ok = erlmcp_shm_exporter:export_prompt(
        <<"greet">>,
        #{
            arguments => [#{name => <<"who">>, required => true}, #{name => <<"how">>}],
            messages => [
                #{role => <<"user">>, content => #{type => <<"text">>, text => <<"{{how}}Hi {{who}}, {{what}} {{ {{who}}{{">>}},
                #{role => <<"{{who}}">>, content => #{type => <<"image">>, data => <<"{{who}}">>}}
            ]
        },
        #{description => <<"Greets">>}
    ),
    {#{<<"prompts">> := [#{<<"name">> := <<"greet">>, <<"description">> := <<"Greets">>, <<"arguments">> := [#{<<"name">> := <<"who">>}, _]}]}, _} =
        ok(modern(1, <<"prompts/list">>, #{}), S),
    Get = fun(Name, Args) -> modern(1, <<"prompts/get">>, #{<<"name">> => Name, <<"arguments">> => Args}) end,
    {#{<<"description">> := <<"Greets">>, <<"messages">> := [#{<<"content">> := #{<<"text">> := Text}}, Image]}, _} =
        ok(Get(<<"greet">>, #{who => <<"{{how}}">>}), S),
    ?assertEqual(<<"Hi {{how}}, {{what}} {{ {{how}}{{">>, Text),
    ?assertMatch(#{<<"role">> := <<"{{who}}">>, <<"content">> := #{<<"data">> := <<"{{who}}">>}}, Image),
    {{200, #{<<"code">> := -32602, <<"message">> := <<"Missing required argument: who">>}}, _} = refused(Get(<<"greet">>, #{}), S),
    {{200, #{<<"code">> := -32602}}, _} = refused(Get(<<"greet">>, #{who => 1}), S),
    {{200, #{<<"code">> := -32602, <<"message">> := <<"Unknown prompt: none">>}}, _} = refused(Get(<<"none">>, #{}), S),
    {#{<<"messages">> := [#{<<"x">> := <<"y">>}]}, _} = ok(Get(<<"made">>, #{x => <<"y">>}), S).

pages(_Config) ->
    S = erlmcp_shm_endpoint:new(#{page_size => 7}),
    Names = [list_to_binary(io_lib:format("t~3..0b", [I])) || I <- lists:seq(1, 100)],
    ok = erlmcp_shm_exporter:export_batch([{tool, N, #{type => <<"object">>}, #{}} || N <- Names]),
    ?assertEqual({Names, 15}, walk(S, undefined, [], 0)),
    %% Between two pages the list may change.
    {#{<<"nextCursor">> := Cursor}, _} = ok(modern(1, <<"tools/list">>, #{}), S),
    [ok = erlmcp_shm_exporter:invalidate(tool, N) || N <- lists:sublist(Names, 10)],
    {Rest, _} = walk(S, Cursor, [], 0),
    ?assertEqual(lists:nthtail(10, Names), Rest),
    {{200, #{<<"code">> := -32602}}, _} = refused(modern(1, <<"tools/list">>, #{<<"cursor">> => <<"!">>}), S),
    {{200, #{<<"code">> := -32602}}, _} = refused(modern(1, <<"tools/list">>, #{<<"cursor">> => 7}), S).

walk(S, Cursor, Names, Pages) ->
    Params =
        case Cursor of
            undefined -> #{};
            _ -> #{<<"cursor">> => Cursor}
        end,
    {#{<<"tools">> := Tools} = Page, _} = ok(modern(1, <<"tools/list">>, Params), S),
    All = Names ++ [N || #{<<"name">> := N} <- Tools],
    case Page of
        #{<<"nextCursor">> := Next} -> walk(S, Next, All, Pages + 1);
        _ -> {All, Pages + 1}
    end.

templates_and_completion(_Config) ->
    Silent = erlmcp_shm_endpoint:new(#{}),
    Complete = modern(1, <<"completion/complete">>, #{<<"ref">> => #{<<"type">> => <<"ref/prompt">>, <<"name">> => <<"p">>}, <<"argument">> => #{<<"name">> => <<"a">>, <<"value">> => <<"x">>}}),
    {#{<<"resourceTemplates">> := [], <<"ttlMs">> := 10000, <<"cacheScope">> := <<"public">>}, _} = ok(modern(1, <<"resources/templates/list">>, #{}), Silent),
    {#{<<"completion">> := #{<<"values">> := []}}, _} = ok(Complete, Silent),
    S = erlmcp_shm_endpoint:new(#{handler => fun
        (list_resource_templates, _) -> {ok, [#{uriTemplate => <<"mem:{n}">>, name => <<"n">>}]};
        ({complete, _, #{<<"value">> := V}, _}, _) -> {ok, [<<V/binary, (integer_to_binary(I))/binary>> || I <- lists:seq(1, 101)]}
    end}),
    {#{<<"resourceTemplates">> := [#{<<"uriTemplate">> := <<"mem:{n}">>}]}, _} = ok(modern(1, <<"resources/templates/list">>, #{}), S),
    {#{<<"completion">> := #{<<"values">> := [<<"x1">> | _] = Values, <<"total">> := 101, <<"hasMore">> := true}}, _} = ok(Complete, S),
    ?assertEqual(100, length(Values)).

%%% Handlers

%% Also for sessions that began before it was set, and those whose configuration leaves it out in so many words.
handler_of_the_node(_Config) ->
    Sessions = [erlmcp_shm_endpoint:new(Options) || Options <- [#{}, #{handler => undefined}]],
    Own = erlmcp_shm_endpoint:new(#{handler => fun(_, _) -> {ok, <<"own">>} end}),
    Text = fun(S) ->
        {#{<<"content">> := [#{<<"text">> := Said}]}, _} = ok(call_tool(1), S),
        Said
    end,
    [{{200, #{<<"code">> := -32602}}, _} = refused(call_tool(1), S) || S <- Sessions],
    ok = erlmcp_shm_handler:set(fun(_, _) -> {ok, <<"the node's">>} end),
    try
        [?assertEqual(<<"the node's">>, Text(S)) || S <- Sessions],
        ?assertEqual(<<"own">>, Text(Own))
    after
        erlmcp_shm_handler:set(undefined)
    end,
    [{{200, #{<<"code">> := -32602}}, _} = refused(call_tool(1), S) || S <- Sessions].

handler_deadline(_Config) ->
    Self = self(),
    S = erlmcp_shm_endpoint:new(#{tool_timeout => 50, handler => fun(_, _) -> Self ! {worker, self()}, timer:sleep(infinity) end}),
    {{200, #{<<"code">> := -32603, <<"message">> := <<"Deadline exceeded">>}}, Left} = refused(call_tool(1), S),
    ?assertEqual(0, erlmcp_shm_endpoint:pending(Left)),
    gone(worker()).

handler_cancelled(_Config) ->
    Self = self(),
    S = erlmcp_shm_endpoint:new(#{handler => fun(_, _) -> Self ! {worker, self()}, timer:sleep(infinity) end}),
    {[], S1} = erlmcp_shm_endpoint:handle(call_tool(7), S),
    Worker = worker(),
    ?assertEqual(1, erlmcp_shm_endpoint:pending(S1)),
    %% The same id while the first is at work.
    {{400, #{<<"code">> := -32600}}, _} = refused(call_tool(7), S1),
    Cancel = fun(Id) -> note(<<"notifications/cancelled">>, #{<<"requestId">> => Id}) end,
    {[{owner, _}], S1} = erlmcp_shm_endpoint:handle(Cancel(8), S1),
    {[{cancelled, 7}], S2} = erlmcp_shm_endpoint:handle(Cancel(7), S1),
    ?assertEqual(0, erlmcp_shm_endpoint:pending(S2)),
    gone(Worker),
    receive
        {erlmcp_shm_reply, _, _} = Late -> error(Late)
    after 100 -> ok
    end,
    %% How many may be at work at once is bounded.
    Full = lists:foldl(fun(Id, Before) -> {[], After} = erlmcp_shm_endpoint:handle(call_tool(Id), Before), After end, S2, lists:seq(1, 64)),
    {{200, #{<<"code">> := -32603}}, _} = refused(call_tool(65), Full),
    {[], Closed} = erlmcp_shm_endpoint:close(Full),
    ?assertEqual(0, erlmcp_shm_endpoint:pending(Closed)),
    [gone(worker()) || _ <- lists:seq(1, 64)].

handler_crash(_Config) ->
    S = erlmcp_shm_endpoint:new(#{handler => fun(_, _) -> error(crash) end}),
    {{200, #{<<"code">> := -32603, <<"message">> := <<"Internal error">>}}, _} = refused(call_tool(1), S).

handler_dies_with_session(_Config) ->
    Self = self(),
    Session = spawn(fun() ->
        S = erlmcp_shm_endpoint:new(#{handler => fun(_, _) -> Self ! {worker, self()}, timer:sleep(infinity) end}),
        {[], _} = erlmcp_shm_endpoint:handle(call_tool(1), S),
        timer:sleep(infinity)
    end),
    Worker = worker(),
    exit(Session, kill),
    gone(Worker).

progress_and_log(_Config) ->
    S = erlmcp_shm_endpoint:new(#{handler => fun(_, #{progress := Progress, log := Log, meta := Meta}) ->
        ok = Progress(1, 2, <<"half">>),
        ok = Progress(2, undefined, undefined),
        ok = Log(<<"info">>, <<"below">>),
        ok = Log(<<"error">>, #{what => <<"above">>}),
        ok = Log(<<"nonsense">>, <<"never">>),
        {ok, maps:get(<<"own">>, Meta, <<"none">>)}
    end}),
    Meta = (meta())#{<<"progressToken">> => <<"t">>, <<"io.modelcontextprotocol/logLevel">> => <<"warning">>, <<"own">> => <<"mine">>},
    {[], S1} = erlmcp_shm_endpoint:handle(request(1, <<"tools/call">>, #{<<"name">> => <<"x">>, <<"_meta">> => Meta}), S),
    {Events, _} = until_reply(S1, []),
    ?assertMatch(
        [
            {about, 1, #{<<"method">> := <<"notifications/progress">>, <<"params">> := #{<<"progressToken">> := <<"t">>, <<"progress">> := 1, <<"total">> := 2, <<"message">> := <<"half">>}}},
            {about, 1, #{<<"params">> := #{<<"progress">> := 2}}},
            {about, 1, #{<<"method">> := <<"notifications/message">>, <<"params">> := #{<<"level">> := <<"error">>, <<"data">> := #{<<"what">> := <<"above">>}}}},
            {reply, 1, #{<<"result">> := #{<<"content">> := [#{<<"text">> := <<"mine">>}]}}}
        ],
        Events
    ),
    %% Nothing for one who did not ask.
    {[], S2} = erlmcp_shm_endpoint:handle(call_tool(1), S),
    ?assertMatch({[{reply, 1, _}], _}, until_reply(S2, [])),
    {_, S3} = ok(request(1, <<"logging/setLevel">>, #{<<"level">> => <<"debug">>}), legacy(S)),
    {[], S4} = erlmcp_shm_endpoint:handle(request(2, <<"tools/call">>, #{<<"name">> => <<"x">>}), S3),
    ?assertMatch({[{about, 2, _}, {about, 2, _}, {reply, 2, _}], _}, until_reply(S4, [])),
    {{200, #{<<"code">> := -32602}}, _} = refused(request(1, <<"logging/setLevel">>, #{<<"level">> => <<"loud">>}), legacy(S)).

%%% What a session is told of

legacy_subscriptions(_Config) ->
    ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, <<"1">>, #{}),
    S0 = legacy(erlmcp_shm_endpoint:new(#{})),
    {Empty, S1} = ok(request(1, <<"resources/subscribe">>, #{<<"uri">> => <<"mem:a">>}), S0),
    ?assertEqual(#{}, Empty),
    {_, S2} = ok(request(2, <<"resources/subscribe">>, #{<<"uri">> => <<"mem:later">>}), S1),
    S3 = settled(S2),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, <<"2">>, #{}),
    {[#{<<"method">> := <<"notifications/resources/updated">>, <<"params">> := #{<<"uri">> := <<"mem:a">>}}], S4} = told(S3, 1),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:later">>, <<"1">>, #{}),
    {New, S5} = told(S4, 2),
    ?assertEqual([<<"notifications/resources/list_changed">>, <<"notifications/resources/updated">>], lists:sort([M || #{<<"method">> := M} <- New])),
    ok = erlmcp_shm_exporter:invalidate(resource, <<"mem:a">>),
    {Gone, S6} = told(S5, 2),
    ?assertEqual([<<"notifications/resources/list_changed">>, <<"notifications/resources/updated">>], lists:sort([M || #{<<"method">> := M} <- Gone])),
    {_, S7} = ok(request(3, <<"resources/unsubscribe">>, #{<<"uri">> => <<"mem:later">>}), S6),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:later">>, <<"2">>, #{}),
    ok = erlmcp_shm_exporter:export_tool_schema(<<"t">>, #{}, #{}),
    {[#{<<"method">> := <<"notifications/tools/list_changed">>}], S8} = told(S7, 1),
    ok = erlmcp_shm_exporter:export_prompt(<<"p">>, #{}, #{}),
    {[#{<<"method">> := <<"notifications/prompts/list_changed">>}], _} = told(S8, 1).

listen(_Config) ->
    ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, <<"1">>, #{}),
    S0 = erlmcp_shm_endpoint:new(#{}),
    Filter = #{<<"toolsListChanged">> => true, <<"resourceSubscriptions">> => [<<"mem:a">>], <<"unknown">> => true},
    {[{about, <<"s">>, Json}], S1} = erlmcp_shm_endpoint:handle(modern(<<"s">>, <<"subscriptions/listen">>, #{<<"notifications">> => Filter}), S0),
    {ok, #{<<"method">> := <<"notifications/subscriptions/acknowledged">>, <<"params">> := Acknowledged}} = erlmcp_shm_json:decode(Json),
    Mark = #{<<"io.modelcontextprotocol/subscriptionId">> => <<"s">>},
    ?assertEqual(#{<<"_meta">> => Mark, <<"notifications">> => maps:without([<<"unknown">>], Filter)}, Acknowledged),
    {[{about, 2, _}], S2} = erlmcp_shm_endpoint:handle(modern(2, <<"subscriptions/listen">>, #{<<"notifications">> => #{<<"promptsListChanged">> => true}}), S1),
    S3 = settled(S2),
    ok = erlmcp_shm_exporter:export_batch([
        {resource, <<"mem:a">>, <<"2">>, #{}}, {resource, <<"mem:b">>, <<"2">>, #{}}, {tool, <<"t">>, #{}, #{}}, {prompt, <<"p">>, #{}, #{}}
    ]),
    {Told, S4} = told(S3, 3),
    ?assertEqual(
        lists:sort([
            {<<"notifications/tools/list_changed">>, <<"s">>},
            {<<"notifications/resources/updated">>, <<"s">>},
            {<<"notifications/prompts/list_changed">>, 2}
        ]),
        lists:sort([{M, Id} || #{<<"method">> := M, <<"params">> := #{<<"_meta">> := #{<<"io.modelcontextprotocol/subscriptionId">> := Id}}} <- Told])
    ),
    {{400, #{<<"code">> := -32600}}, _} = refused(modern(2, <<"tools/list">>, #{}), S4),
    {[{cancelled, 2}], S5} = erlmcp_shm_endpoint:handle(note(<<"notifications/cancelled">>, #{<<"requestId">> => 2}), S4),
    {[{reply, <<"s">>, 200, End}], _} = erlmcp_shm_endpoint:close(S5),
    ?assertEqual(
        {ok, #{<<"jsonrpc">> => <<"2.0">>, <<"id">> => <<"s">>, <<"result">> => #{<<"resultType">> => <<"complete">>, <<"_meta">> => Mark}}},
        erlmcp_shm_json:decode(End)
    ),
    {{200, #{<<"code">> := -32602}}, _} = refused(modern(1, <<"subscriptions/listen">>, #{<<"notifications">> => #{<<"resourceSubscriptions">> => [1]}}), S0).

%% A session that does not look for a while has one message waiting for it, and finds the newest.
coalesced(_Config) ->
    S0 = legacy(erlmcp_shm_endpoint:new(#{})),
    {_, S1} = ok(request(1, <<"resources/subscribe">>, #{<<"uri">> => <<"mem:a">>}), S0),
    S2 = settled(S1),
    [
        begin
            ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, integer_to_binary(N), #{}),
            timer:sleep(1)
        end
     || N <- lists:seq(1, 300)
    ],
    %% Received and not looked for in the mailbox: what no receive has fetched yet, process_info does not show.
    Woken = fun(Patience) ->
        receive
            erlmcp_shm_changed -> true
        after Patience -> false
        end
    end,
    ?assert(Woken(10000)),
    ?assertNot(Woken(100)),
    self() ! erlmcp_shm_changed,
    {[_, _], S3} = told(S2, 2),
    ?assertMatch({[], _}, erlmcp_shm_endpoint:collect(S3)).

reports(_Config) ->
    S = erlmcp_shm_endpoint:new(#{}),
    Text = note(<<"notifications/erlmcp/client_metrics">>, #{<<"reads">> => 7}),
    ?assertMatch({[{report, #{<<"reads">> := 7}}, {owner, Text}], _}, erlmcp_shm_endpoint:handle(Text, S)).

%%% Helpers

meta() ->
    #{<<"io.modelcontextprotocol/protocolVersion">> => ?MODERN, <<"io.modelcontextprotocol/clientCapabilities">> => #{}}.

modern(Id, Method, Params) ->
    request(Id, Method, Params#{<<"_meta">> => meta()}).

request(Id, Method, Params) ->
    {ok, Json} = erlmcp_shm_json:encode(#{jsonrpc => <<"2.0">>, id => Id, method => Method, params => Params}),
    Json.

note(Method, Params) ->
    {ok, Json} = erlmcp_shm_json:encode(#{jsonrpc => <<"2.0">>, method => Method, params => Params}),
    Json.

call_tool(Id) ->
    modern(Id, <<"tools/call">>, #{<<"name">> => <<"x">>}).

legacy(S) ->
    {_, New} = ok(request(0, <<"initialize">>, #{<<"protocolVersion">> => <<"2025-11-25">>}), S),
    New.

ok(Text, S) ->
    {Answer, _, New} = answer(Text, S),
    {maps:get(<<"result">>, Answer), New}.

refused(Text, S) ->
    {Answer, Status, New} = answer(Text, S),
    {{Status, maps:get(<<"error">>, Answer)}, New}.

answer(Text, S) ->
    {Events, New} =
        case erlmcp_shm_endpoint:handle(Text, S) of
            {[], Waiting} -> next(Waiting);
            Done -> Done
        end,
    [{reply, Id, Status, Json}] = Events,
    {ok, #{<<"jsonrpc">> := <<"2.0">>, <<"id">> := Id} = Answer} = erlmcp_shm_json:decode(Json),
    {Answer, Status, New}.

next(S) ->
    receive
        Message when element(1, Message) =:= erlmcp_shm_reply; element(1, Message) =:= erlmcp_shm_note ->
            erlmcp_shm_endpoint:info(Message, S)
    after 10000 -> error(no_answer)
    end.

until_reply(S, Events) ->
    {New, Next} = next(S),
    Decoded = [decoded(Event) || Event <- New],
    case Decoded of
        [{reply, _, _}] -> {Events ++ Decoded, Next};
        _ -> until_reply(Next, Events ++ Decoded)
    end.

decoded({about, Id, Json}) ->
    {ok, Term} = erlmcp_shm_json:decode(Json),
    {about, Id, Term};
decoded({reply, Id, 200, Json}) ->
    {ok, Term} = erlmcp_shm_json:decode(Json),
    {reply, Id, Term}.

%% What was published before the subscription is over and told.
settled(S) ->
    timer:sleep(100),
    {_, New} = erlmcp_shm_endpoint:collect(S),
    receive
        erlmcp_shm_changed -> settled(New)
    after 100 -> New
    end.

%% Exactly so many notifications, in however many looks.
told(S, N) ->
    told(S, N, []).

told(S, N, Told) when length(Told) < N ->
    receive
        erlmcp_shm_changed ->
            {Events, New} = erlmcp_shm_endpoint:info(erlmcp_shm_changed, S),
            told(New, N, Told ++ [element(2, {ok, _} = erlmcp_shm_json:decode(element(tuple_size(E), E))) || E <- Events])
    after 10000 -> error({told, Told})
    end;
told(S, N, Told) ->
    ?assertEqual({N, Told}, {length(Told), Told}),
    {Told, S}.

worker() ->
    receive
        {worker, Pid} -> Pid
    after 10000 -> error(no_worker)
    end.

gone(Pid) ->
    Monitor = monitor(process, Pid),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    after 10000 -> error({alive, Pid})
    end.
