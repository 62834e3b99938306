%% docs/operating.md has every error that the code has, and no other.
-module(erlmcp_shm_errors_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

all() ->
    [rust, atoms, erlang, endpoint, logged, events, headings].

%%% Enums

%% A table for each enum, with a row for each variant.
rust(_Config) ->
    Tables = tables("errors"),
    ?assertEqual(6, length(Tables)),
    [
        begin
            [File | Enums] = string:lexemes(What, " "),
            Variants = lists:append([variants(File, Enum) || Enum <- Enums]),
            ?assertEqual({What, lists:sort(Variants)}, {What, lists:sort(lists:append([camels(Row) || Row <- Rows]))})
        end
     || {What, Rows} <- Tables
    ].

variants(File, Enum) ->
    {match, [Body]} = re:run(read(File), ["pub enum ", Enum, " {\\n(.*?)\\n}\\n"], [dotall, {capture, all_but_first, binary}]),
    found(Body, "^    ([A-Z]\\w*)", [multiline]).

%% The first cell with such a name has them.
camels(Row) ->
    case [Names || Cell <- lists:sublist(Row, 2), Names <- [found(Cell, "`([A-Z][A-Za-z]*)`", [])], Names =/= []] of
        [Names | _] -> Names;
        [] -> []
    end.

%% What crosses to Erlang has the name there that the table says.
atoms(_Config) ->
    Source = read("native/src/fail.rs"),
    [
        begin
            Pattern = Enum ++ "::(\\w+)(?:\\(\\w+\\))? => (?:return \\()?atoms::(\\w+)\\(\\)",
            {match, Pairs} = re:run(Source, Pattern, [global, {capture, all_but_first, binary}]),
            ?assert(length(Pairs) > 8),
            {_, Rows} = lists:keyfind(File ++ " " ++ Enum, 1, tables("errors")),
            Shown = [[hd(camels(Row)), hd(found(hd(Row), "`(\\w+)`", []))] || Row <- Rows, string:find(hd(Row), "POSIX") =:= nomatch],
            ?assertEqual({Enum, lists:sort(Pairs)}, {Enum, lists:sort([Pair || Pair <- Shown, lists:member(Pair, Pairs) orelse hd(Pair) =/= <<"BadOption">>])})
        end
     || {File, Enum} <- [{"writer/src/error.rs", "WriteError"}, {"reader/src/error.rs", "ReadError"}]
    ].

%%% Reasons in Erlang

%% Each reason that a module names, but for those that stay inside.
erlang(_Config) ->
    [
        begin
            Named = lists:append([reasons(Module) || Module <- string:lexemes(Modules, " ")]),
            Shown = lists:append([found(hd(Row), "`(\\w+)`", []) || Row <- Rows]),
            ?assertEqual({Modules, []}, {Modules, lists:usort(Named) -- Shown}),
            %% From native code, through another module, or out of start_link's contract.
            Elsewhere = [<<"bad_metadata">>, <<"already_started">>, <<"not_json">>, <<"badarg">>, <<"failed_to_create_shm">>, <<"not_found">>, <<"bad_config">>],
            ?assertEqual({Modules, []}, {Modules, (Shown -- Named) -- Elsewhere})
        end
     || {Modules, Rows} <- tables("erlang")
    ].

reasons(Module) ->
    All = found(read("src/" ++ Module ++ ".erl"), "\\{error, \\{?([a-z]\\w*)\\b(?![(:])", []),
    Inside = [
        %% An answer to what nobody asks.
        <<"unknown_call">>,
        %% Matched, and turned into something else.
        <<"already_started">>, <<"shutdown">>, <<"eaddrinuse">>, <<"full">>, <<"ignore">>, <<"corrupt">>
    ],
    [Reason || Reason <- lists:usort(All), not lists:member(Reason, Inside)].

%%% The endpoint, the log

endpoint(_Config) ->
    Sources = [read(filename:join("src", File)) || File <- filelib:wildcard("*.erl", source_dir())],
    Found = fun(Pattern) -> lists:usort(lists:append([found(Source, Pattern, []) || Source <- Sources])) end,
    Shown = fun(Table) -> [{_, Rows}] = tables(Table), lists:sort([Cell || [Cell | _] <- Rows]) end,
    ?assertEqual(Found("refuse\\((\\d{3}), -"), Shown("http")),
    ?assertEqual(lists:sort(Found("[({ ](-32\\d{3})\\b")), Shown("jsonrpc")).

logged(_Config) ->
    Sources = [read(filename:join("src", File)) || File <- filelib:wildcard("*.erl", source_dir())],
    Named = lists:usort(lists:append([found(Source, "what => ([a-z]\\w*)", []) || Source <- Sources])),
    %% observe/3 is given what it is about.
    [{_, Rows}] = tables("log"),
    Shown = [Name || [Cell | _] <- Rows, Name <- found(Cell, "`(\\w+)`", [])],
    ?assertEqual(lists:sort([<<"heartbeat">>, <<"build">> | Named]), lists:sort(Shown)).

events(_Config) ->
    Sources = [read(filename:join("src", File)) || File <- filelib:wildcard("*.erl", source_dir())],
    Executed = lists:append([found(Source, "erlmcp_shm_telemetry:execute\\(\\[([a-z_, ]+)\\]", []) || Source <- Sources]),
    [{_, Rows}] = tables("telemetry"),
    Shown = [Event || [Cell | _] <- Rows, Event <- found(Cell, "^`\\[erlmcp_claude_flow, (.*)\\]`$", [])],
    ?assertEqual(lists:usort(Executed), lists:sort(Shown)).

source_dir() ->
    {ok, File} = erlmcp_shm_test:project_file("src/erlmcp_shm.app.src"),
    filename:dirname(File).

%%% Where the alerts lead

%% Each alert names a heading of the page.
headings(_Config) ->
    Page = read("docs/operating.md"),
    Named = found(read("ops/prometheus-rules.yml"), <<"See docs/operating.md, “(.*?)”"/utf8>>, []),
    ?assertEqual(length(found(read("ops/prometheus-rules.yml"), "- alert: (\\w+)", [])), length(Named)),
    [?assertMatch({match, _}, re:run(Page, ["^## ", Heading, "$"], [multiline]), Heading) || Heading <- Named],
    [?assertNotEqual(nomatch, string:find(Page, ["`", Alert, "`"])) || Alert <- found(read("ops/prometheus-rules.yml"), "- alert: (\\w+)", [])].

%%% Helpers

%% The tables that are announced like this, with what is said behind it, as rows of cells.
tables(Kind) ->
    Pattern = "<!-- " ++ Kind ++ ":? ?(.*?) ?-->\\n((?:\\|.*\\n)+)",
    {match, Found} = re:run(read("docs/operating.md"), Pattern, [global, {capture, all_but_first, binary}]),
    [
        {binary_to_list(What), [cells(Line) || Line <- tl(tl(binary:split(Table, <<"\n">>, [global, trim])))]}
     || [What, Table] <- Found
    ].

cells(Line) ->
    [_ | Cells] = [string:trim(Cell) || Cell <- binary:split(Line, <<"|">>, [global])],
    Cells.

found(Text, Pattern, Options) ->
    case re:run(Text, Pattern, [global, {capture, all_but_first, binary} | Options]) of
        {match, All} -> lists:append(All);
        nomatch -> []
    end.

read(Relative) ->
    {ok, File} = erlmcp_shm_test:project_file(Relative),
    {ok, Text} = file:read_file(File),
    Text.
