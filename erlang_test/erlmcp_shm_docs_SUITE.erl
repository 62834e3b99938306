%% Every command that a page shows is run, and prints what the page says that it prints.
%%
%% In a block of kind `console' a line that begins with `$ ' is a command, one with `# ' a command for root, one with
%% `> ' the next line of the command before it, and anything else what is printed: `...' in it is anything, and a line of
%% `...' any number of lines. Nothing shown is nothing said. Each section of a page starts from nothing.
-module(erlmcp_shm_docs_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

all() ->
    [readme, tutorial, deployment, operating, contributing, every_page, sizes, claims, links].

init_per_suite(Config) ->
    case sandbox([], Config) of
        {0, _} -> Config;
        {_, Why} -> [{no_sandbox, "SKIPPED: no name spaces of one's own here: " ++ binary_to_list(Why)} | Config]
    end.

end_per_suite(_Config) ->
    ok.

%% The pages, and what runs before their first command.
pages() ->
    [
        {"README.md", [a_node()]},
        {"CONTRIBUTING.md", []},
        {"docs/deployment.md", []},
        {"docs/operating.md", [a_node()]},
        {"docs/tutorial.md", []}
    ].

readme(Config) -> page("README.md", Config).

tutorial(Config) -> page("docs/tutorial.md", Config).

deployment(Config) -> page("docs/deployment.md", Config).

operating(Config) -> page("docs/operating.md", Config).

contributing(Config) -> page("CONTRIBUTING.md", Config).

%% None that shows commands was forgotten.
every_page(_Config) ->
    Showing = [Page || Page <- all_pages(), [_ | _] <- [lists:append([Commands || {_, Commands} <- sections(Page)])]],
    ?assertEqual(lists:sort([Page || {Page, _} <- pages()]), lists:sort(Showing)).

%% What those pages are about: a node that has published something.
a_node() ->
    "ERL_LIBS=_build/default/lib erl -noinput -config config/claude_flow -s erlmcp_shm -eval '"
    "ok = erlmcp_shm_exporter:export_resource(<<\"file:///motd\">>, <<\"hello\">>, #{}).' >/dev/null 2>&1 &".

page(Relative, Config) ->
    Before = proplists:get_value(Relative, pages()),
    case proplists:get_value(no_sandbox, Config) of
        undefined -> [section(Relative, Title, Before, Commands, Config) || {Title, [_ | _] = Commands} <- sections(Relative)];
        Why -> {skip, Why}
    end.

section(Relative, Title, Before, Commands, Config) ->
    All = [{any, Command, []} || Command <- Before] ++ Commands,
    {0, Printed} = sandbox(All, Config),
    Results = results(Printed),
    ?assertEqual({Title, length(All)}, {Title, length(Results)}),
    [check(Relative, Command, Shown, Result) || {{_, Command, Shown}, Result} <- lists:zip(All, Results)].

check(_, Command, _, {skipped, Why}) ->
    ct:print("SKIPPED: ~ts (~ts)", [Command, Why]);
check(Relative, Command, Shown, {Out, Err, Status}) ->
    ?assertEqual({Relative, Command, 0, Out, Err}, {Relative, Command, Status, Out, Err}),
    Shown =:= [] orelse
        ?assertMatch({Command, match, _}, {Command, re:run(Out, pattern(Shown), [{capture, none}]), Out}).

pattern(Lines) ->
    Line = fun
        (<<"...">>) -> "(?:.*\\n)*?";
        (Text) -> [lists:join(".*", [quoted(Part) || Part <- binary:split(Text, <<"...">>, [global])]), "\\n"]
    end,
    iolist_to_binary(["\\A", [Line(Text) || Text <- Lines], "\\Z"]).

quoted(Text) ->
    re:replace(Text, "[][(){}.*+?^$|\\\\/-]", "\\\\&", [global]).

sandbox(Commands, Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    Input = filename:join(Dir, "commands"),
    ok = file:write_file(Input, [[atom_to_binary(Who), $:, Command, 0] || {Who, Command, _} <- Commands]),
    {ok, Makefile} = erlmcp_shm_test:project_file("Makefile"),
    {ok, Binary} = erlmcp_shm_test:binary("erlmcp-shm"),
    Project = filename:dirname(Makefile),
    Args = [filename:join(Project, "erlang_test/sandbox.sh"), Project, filename:dirname(filename:absname(Binary)), libs(Dir), Input],
    erlmcp_shm_test:run(os:find_executable("sh"), ["-c", "exec \"$0\" \"$1\" \"$2\" \"$3\" <\"$4\" 2>&1" | Args]).

%% What `make build' leaves in _build/default/lib, wherever it is in this test run.
libs(Dir) ->
    Libs = filename:join(Dir, "libs"),
    [
        begin
            Link = filename:join(Libs, App),
            ok = filelib:ensure_dir(Link),
            _ = file:make_symlink(code:lib_dir(App), Link)
        end
     || App <- [erlmcp_shm, cowboy, cowlib, ranch, prometheus, accept, quantile_estimator, ddskerl], is_list(code:lib_dir(App))
    ],
    Libs.

results(Printed) ->
    Pattern = "@@ (?:skipped (.*)\\n|out\\n((?s:.*?))@@ err\\n((?s:.*?))@@ status (\\d+)\\n)",
    {match, All} = re:run(Printed, Pattern, [global, {capture, all_but_first, binary}]),
    [
        case Result of
            [Why] -> {skipped, Why};
            [_, Out, Err, Status] -> {Out, Err, binary_to_integer(Status)}
        end
     || Result <- All
    ].

%%% Pages

%% Title and commands, those with who runs them and what is shown behind.
sections(Relative) ->
    Sections = re:split(read(Relative), "^(?=## )", [multiline]),
    [{hd(binary:split(Section, <<"\n">>)), commands(Section)} || Section <- Sections].

commands(Section) ->
    Blocks = found(Section, "^```console\\n(.*?)^```", [multiline, dotall]),
    lists:append([lists:reverse(lists:foldl(fun line/2, [], binary:split(Block, <<"\n">>, [global, trim]))) || Block <- Blocks]).

line(<<"$ ", Command/binary>>, Before) -> [{any, Command, []} | Before];
line(<<"# ", Command/binary>>, Before) -> [{root, Command, []} | Before];
line(<<">">>, Before) -> line(<<"> ">>, Before);
line(<<"> ", More/binary>>, [{Who, Command, []} | Before]) -> [{Who, <<Command/binary, $\n, More/binary>>, []} | Before];
line(Shown, [{Who, Command, Lines} | Before]) -> [{Who, Command, Lines ++ [Shown]} | Before].

%% With the `max_size' that docs/deployment.md has one compute, what was computed with fits, and no alert fires.
sizes(Config) ->
    [
        begin
            Entries = [{resource, <<"file:///", (integer_to_binary(N))/binary>>, binary:copy(<<"x">>, Bytes), #{}} || N <- lists:seq(1, Count)],
            Told = lists:sum([byte_size(Key) + byte_size(Data) + 2 || {_, Key, Data, _} <- Entries]),
            Path = filename:join(proplists:get_value(priv_dir, Config), "sizes.bin"),
            Exporter = erlmcp_shm_test:start(#{path => Path, size => 1 bsl 16, max_size => 3 * (Told + 300 * Count), recover => clear}),
            ?assertEqual({Count, ok}, {Count, erlmcp_shm_exporter:export_batch(Entries)}),
            #{fill := Fill} = erlmcp_shm_exporter:info(),
            ct:print("~p entries of ~p bytes: filled to ~.2f", [Count, Bytes, Fill]),
            ?assert(Fill < 0.8, {Count, Bytes, Fill}),
            ok = gen_server:stop(Exporter),
            ok = file:delete(Path)
        end
     || {Count, Bytes} <- [{20000, 10}, {5000, 1024}, {20, 100000}, {1000, 0}]
    ].

%% What docs/security.md says of a test is said of one that there is.
claims(_Config) ->
    {match, Claims} = re:run(read("docs/security.md"), "`([\\w!]+)` in ([\\w/.]+)", [global, {capture, all_but_first, binary}]),
    ?assert(length(Claims) > 20),
    [
        ?assertMatch({match, _}, re:run(read(File), ["(?m)^\\s*(fn |async fn )?", Test, "\\b|^", Test]), {File, Test})
     || [Test, File] <- Claims
    ].

%% What a page refers to is there, headings included.
links(_Config) ->
    [
        begin
            {File, Heading} =
                case binary:split(Link, <<"#">>) of
                    [<<>>, Anchor] -> {Page, Anchor};
                    [Relative, Anchor] -> {beside(Page, Relative), Anchor};
                    [Relative] -> {beside(Page, Relative), none}
                end,
            ?assertMatch({Page, Link, {ok, _}}, {Page, Link, erlmcp_shm_test:project_file(File)}),
            Heading =:= none orelse ?assert(lists:member(Heading, headings(File)), {Page, Link})
        end
     || Page <- all_pages(), Link <- found(read(Page), "\\]\\(((?!https?:)[^)]+)\\)", [])
    ].

all_pages() ->
    {ok, Makefile} = erlmcp_shm_test:project_file("Makefile"),
    Project = filename:dirname(Makefile),
    filelib:wildcard("*.md", Project) ++ filelib:wildcard("docs/*.md", Project).

%% Without the steps up, as a path below the project.
beside(Page, Relative) ->
    Parts = filename:split(filename:join(filename:dirname(Page), Relative)),
    filename:join(lists:reverse(lists:foldl(fun step/2, [], Parts))).

step(Up, [_ | Parts]) when Up =:= ".."; Up =:= <<"..">> -> Parts;
step(Here, Parts) when Here =:= "."; Here =:= <<".">> -> Parts;
step(Part, Parts) -> [Part | Parts].

headings(File) ->
    [anchor(Heading) || Heading <- found(read(File), "^#+ (.*)$", [multiline])].

anchor(Heading) ->
    Kept = re:replace(string:lowercase(Heading), "[^\\w -]", "", [global, unicode]),
    iolist_to_binary(string:replace(iolist_to_binary(Kept), " ", "-", all)).

found(Text, Pattern, Options) ->
    case re:run(Text, Pattern, [global, {capture, all_but_first, binary} | Options]) of
        {match, All} -> lists:append(All);
        nomatch -> []
    end.

read(Relative) ->
    {ok, File} = erlmcp_shm_test:project_file(Relative),
    {ok, Text} = file:read_file(File),
    Text.
