"""Sentences and texts written for these tests, by language: what an assistant might say."""

SENTENCES = {
    "de": (
        "Ich glaube, dass wir morgen noch einmal darüber sprechen sollten.",
        "Die Antwort auf diese Frage hängt davon ab, wie viel Zeit du hast.",
        "Das Wasser kocht bei hundert Grad, wenn der Druck normal ist.",
    ),
    "fr": (
        "Je pense que nous devrions en parler encore une fois demain matin.",
        "La réponse dépend du temps que vous avez et de ce que vous voulez faire.",
        "Il faut toujours garder une copie de ses fichiers dans un autre endroit.",
    ),
    "es": (
        "Creo que deberíamos hablar de esto otra vez mañana por la mañana.",
        "La respuesta depende de cuánto tiempo tienes y de lo que quieres hacer.",
        "El agua hierve a cien grados cuando la presión es normal.",
    ),
    "it": (
        "Penso che dovremmo parlarne ancora una volta domani mattina.",
        "La risposta dipende da quanto tempo hai e da quello che vuoi fare.",
        "Quando piove molto il fiume cresce e la strada viene chiusa.",
    ),
    "pt": (
        "Acho que devemos falar sobre isso mais uma vez amanhã de manhã.",
        "A resposta depende de quanto tempo você tem e do que quer fazer.",
        "Quando chove muito, o rio sobe e a estrada fica fechada.",
    ),
    "nl": (
        "Ik denk dat we daar morgen nog eens over moeten praten.",
        "Het antwoord hangt af van hoeveel tijd je hebt en wat je wilt doen.",
        "Als het hard regent, stijgt de rivier en wordt de weg afgesloten.",
    ),
    "sv": (
        "Jag tror att vi borde prata om det en gång till i morgon.",
        "Svaret beror på hur mycket tid du har och vad du vill göra.",
        "När det regnar mycket stiger floden och vägen stängs av.",
    ),
    "da": (
        "Jeg tror, at vi bør tale om det en gang til i morgen.",
        "Svaret afhænger af, hvor meget tid du har, og hvad du vil gøre.",
    ),
    "no": (
        "Jeg tror at vi bør snakke om det en gang til i morgen.",
        "Svaret avhenger av hvor mye tid du har og hva du vil gjøre.",
    ),
    "fi": (
        "Luulen, että meidän pitäisi puhua siitä vielä kerran huomenna.",
        "Vastaus riippuu siitä, kuinka paljon aikaa sinulla on ja mitä haluat tehdä.",
    ),
    "pl": (
        "Myślę, że powinniśmy jutro jeszcze raz o tym porozmawiać.",
        "Odpowiedź zależy od tego, ile masz czasu i co chcesz zrobić.",
    ),
    "cs": (
        "Myslím, že bychom o tom měli zítra ještě jednou mluvit.",
        "Odpověď závisí na tom, kolik máte času a co chcete dělat.",
    ),
    "hu": (
        "Azt hiszem, hogy holnap még egyszer beszélnünk kellene erről.",
        "A válasz attól függ, hogy mennyi időd van és mit szeretnél csinálni.",
    ),
    "ro": (
        "Cred că ar trebui să vorbim despre asta încă o dată mâine dimineață.",
        "Răspunsul depinde de cât timp ai și de ce vrei să faci.",
    ),
    "tr": (
        "Bence bu konuyu yarın sabah bir kez daha konuşmalıyız.",
        "Cevap ne kadar zamanın olduğuna ve ne yapmak istediğine bağlı.",
    ),
    "id": (
        "Saya pikir kita harus membicarakan hal ini sekali lagi besok pagi.",
        "Jawabannya tergantung pada berapa banyak waktu yang kamu miliki.",
    ),
    "vi": (
        "Tôi nghĩ rằng chúng ta nên nói về chuyện này một lần nữa vào ngày mai.",
        "Câu trả lời phụ thuộc vào việc bạn có bao nhiêu thời gian.",
    ),
    "hr": (
        "Mislim da bismo sutra trebali još jednom razgovarati o tome.",
        "Odgovor ovisi o tome koliko vremena imate i što želite raditi.",
    ),
    "ca": (
        "Crec que hauríem de parlar-ne una altra vegada demà al matí.",
        "La resposta depèn de quant de temps tens i del que vols fer.",
    ),
}
"""Languages in Latin script."""

OTHER_SCRIPTS = {
    "zh": "我觉得我们明天早上应该再谈一次这件事。",
    "ja": "明日の朝、もう一度この話をしたほうがいいと思います。",
    "ko": "내일 아침에 이 이야기를 다시 해야 한다고 생각해요.",
    "ru": "Я думаю, что нам стоит поговорить об этом ещё раз завтра утром.",
    "el": "Νομίζω ότι πρέπει να το συζητήσουμε ξανά αύριο το πρωί.",
    "ar": "أعتقد أننا يجب أن نتحدث عن هذا مرة أخرى صباح الغد.",
    "he": "אני חושב שכדאי שנדבר על זה שוב מחר בבוקר.",
    "hi": "मुझे लगता है कि हमें कल सुबह इस बारे में फिर से बात करनी चाहिए।",
    "th": "ฉันคิดว่าเราควรคุยเรื่องนี้กันอีกครั้งพรุ่งนี้เช้า",
}

ENGLISH = (
    "The river rises every spring when the snow melts in the hills, and the old road is closed for a week. People in "
    "the village keep boats ready, move their animals to higher ground and wait. Nobody complains, because the water "
    "brings good soil to the fields. After the flood the children look for things that the river has left behind.",
    "To bake bread you need flour, water, salt and a little yeast. Mix them until the dough no longer sticks to your "
    "hands, cover the bowl and let it rest for two hours. Shape a loaf, wait until it has doubled, and put it into a "
    "hot oven. It is done when it sounds hollow. Let it cool before you cut it, even if that is hard.",
    "A hash table stores each value under a key. The key is turned into a number by a function, and the number says "
    "where to look. When two keys give the same number, both are kept in one bucket, and the table compares them one "
    "by one. If the buckets grow too long, the table is made larger and every key is placed again.",
    "Anna asked whether the letter had come. Her brother shook his head and went on reading. She stood at the window "
    "for a while; then she put on her coat, took the dog and walked down to the harbour. The ships were lit. Someone "
    "on the pier was singing, not very well, and she stopped to listen until it grew too cold.",
)
"""English prose in which nothing is foreign."""

HARD_ENGLISH = (
    "Ludwig van Beethoven, Vincent van Gogh, Leonardo da Vinci and Miguel de Cervantes never met in Rio de Janeiro.",
    "Status quo, vice versa, ad hoc, et cetera and de facto are Latin phrases; déjà vu and c'est la vie are French.",
    "kernel driver buffer cache pipeline register optimizer scheduler token embedding gradient tensor",
    "for i in range(len(xs)):\n    el = xs[i]\n    del ys[el.key]\n    os.remove(de_path)\n    return el, la, un",
    "Kuala Lumpur, Buenos Aires, São Paulo, Montréal, Zürich, Kraków, Malmö, Reykjavík, Los Angeles, El Paso.",
    "SELECT id, nome FROM clienti WHERE attivo = 1 ORDER BY nome;",
    "α and β are angles, Δx is a small step, π is 3.14159, and the answer is ½ µm.",
)
"""English with names, loan words, code and symbols."""

LOAN_WORDS = (
    "The café served crème brûlée, jalapeños, pâté and a glass of Gewürztraminer to Zoë, José and François.",
    "Ingredients: tortilla, salsa, guacamole, mozzarella, prosciutto, spaghetti, risotto, croissant, baguette.",
)
"""English with rows of French and Italian words."""
