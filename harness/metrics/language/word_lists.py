"""Common words of languages for which langdetect ships no profile; their trigrams are counted from
these words.

Written for this project from general knowledge. Chinese and Hindi are here as a model writes them
in Latin letters: syllables without tone marks, and the usual spelling of chat messages.
"""

from __future__ import annotations

from collections.abc import Mapping

_LISTS = {
    "eo": """la kaj estas mi vi li ŝi ĝi ni ili oni ke en de al por sen sub pri tra kiel kiam kio
        kiu kie kial kia ĉu ĉi tiu tio tia tiam ĉiu ĉio ĉiuj ĉiam neniu nenio neniam ne sed aŭ se
        ankaŭ ankoraŭ nur tre pli plej jam nun poste antaŭ post inter ĝis ĉar tamen mia via lia
        ŝia ĝia nia ilia sia vin lin ŝin nin ilin havas havis estis estos estu esti povas povis
        devas volas scias pensas diras diris faras faris venas iras vidas parolas komprenas
        manĝas trinkas loĝas laboras helpas amas bezonas legas skribas uzas donas prenas trovas
        komencas bona bonan bone granda grandaj malgranda bela malnova multaj multe kelkaj unua
        alia aliaj tuta sama homo homoj tago tagon tagoj jaro jaroj tempo domo domon urbo urbon
        lando akvo akvon vetero mondo vivo libro libron vorto vortoj lingvo lingvon amiko amikoj
        hundo kato viro virino infano infanoj patro patrino lernejo laboro maniero afero aferoj
        ekzemplo respondo demando dankon saluton bonvolu hodiaŭ morgaŭ hieraŭ ĉefurbo parko
        strato vojo suno luno ĉielo maro montoj arboj birdoj floroj promeni paroli fari havi vidi
        scii diri iri veni kuiri manĝi necesas eblas gravas ŝajnas okazas troviĝas nomiĝas
        signifas unu du tri kvar kvin dek cent""",
    "zh-Latn": """women wo ni ta nimen tamen shi de ma ne ba bu hen hao zai you zhe na zhege nage
        zheli nali shenme zenme zenmeyang weishenme shei shui ji duoshao dou hai jiu cai dao qu
        lai keyi neng hui yao xiang xihuan zhidao jueding juede renwei shuo kan xie du chi zuo
        mai gei bei cong dui gen yin wei yinwei suoyi danshi keshi ruguo ranhou huozhe haishi
        yige yidian yixia yiqi yijing xianzai jintian mingtian zuotian nian yue ri tian shihou
        shijian zhongguo zhongwen beijing shanghai shoudu ren pengyou laoshi xuesheng xuexi
        xuexiao gongzuo jia jiali baba mama haizi erzi nüer xiansheng xiaojie xiao duo shao xin
        gao piaoliang qing qingwen xiexie buxie duibuqi meiguanxi zaijian nihao ninhao huanying
        wenti huida dongxi shiqing difang yisi mingzi dianhua diannao shouji qiche huoche feiji
        chifan heshui cha kafei mifan miantiao pingguo tianqi xiayu leng re kuai yuan jin zuihou
        diyi liang wu liu qi bai qian wan meiyou bushi buyao zhen zheng feichang tai geng zui
        meitian bangzhu xuyao yinggai gaoxing kaixin mingbai dangran biru zhishi meiguo yingguo
        shijie jingji wenhua lishi kexue jishu shenghuo jiankang anquan fangfa jieguo yuanyin""",
    "hi-Latn": """mein tum aap woh yeh vah hai hain hoon ho thi hoga hogi kya kyun kyon kaise
        kaisa kaisi kahan kab kaun kitna kitne aur lekin magar agar toh bhi hi nahi nahin haan ji
        ka ki ke ko se tak liye saath mera meri mere tera teri tumhara aapka aapki hamara unka
        iska uska apna apne kuch koi sab bahut thoda zyada accha acchi theek thik bura bada chota
        naya purana aaj kal abhi phir baad pehle raat subah shaam mausam samay paani khana chai
        ghar kaam baat dost bhai behen baccha duniya desh shahar zindagi pyaar dil naam karna
        karta karte karti karo kiya kar raha rahe rahi sakta sakte sakti hona jata jaate gaya
        aana aata aaya dena diya lena liya dekho dekha suno bolo bola kaha samajh chahiye chahte
        chahta pata shukriya dhanyavaad namaste jaankari yahan wahan waise jaise kyunki isliye
        matlab sawaal jawab madad achha aapko mujhe tumhe usko unko humein""",
}

WORD_LISTS: Mapping[str, frozenset[str]] = {
    language: frozenset(text.split()) for language, text in _LISTS.items()
}
"""Code → common words, lower case."""
